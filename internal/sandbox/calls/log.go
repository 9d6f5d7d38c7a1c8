// Package calls is the log of all calls to the sandbox: one line of JSON for
// each, from which the least IAM policy of each access key can be made.
package calls

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Line is one call.
type Line struct {
	Time      time.Time    `json:"time"`
	Service   string       `json:"service"`
	Operation string       `json:"operation"`
	Region    string       `json:"region"`
	Principal string       `json:"principal"`         // access key id
	Actions   []api.Action `json:"actions,omitempty"` // what the caller must be permitted
	Agent     string       `json:"agent"`
	RequestID string       `json:"request_id"`
	Status    int          `json:"status"`          // 0 when nothing was answered
	Error     string       `json:"error,omitempty"` // AWS's code
	Message   string       `json:"message,omitempty"`
	Fault     string       `json:"fault,omitempty"` // the rule that made the call go wrong
	Millis    float64      `json:"ms"`
}

// Log writes lines. A nil Log writes none.
type Log struct {
	mu     sync.Mutex
	w      io.Writer
	failed error
}

// New makes a log that writes to w, or none at all when w is nil.
func New(w io.Writer) *Log {
	if w == nil {
		return nil
	}
	return &Log{w: w}
}

// Add writes the line of one call.
func (l *Log) Add(c *api.Call, r *http.Request, status int, err error, took time.Duration) {
	if l == nil {
		return
	}
	line := Line{
		Time: c.Now, Service: c.Service, Operation: c.Operation, Region: c.Region, Principal: c.Principal,
		Actions: c.Actions, Agent: r.UserAgent(), RequestID: c.RequestID, Status: status,
		Fault: c.Fault, Millis: float64(took.Microseconds()) / 1e3,
	}
	if err != nil {
		line.Message = err.Error()
		if e, ok := errors.AsType[*wire.Error](err); ok {
			line.Error, line.Message = e.Code, e.Message
		}
	}
	text, err := json.Marshal(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.w.Write(append(text, '\n'))
	}
	if err != nil && l.failed == nil {
		l.failed = fmt.Errorf("write the call log: %w", err)
	}
}

// Close gives the first error of writing, if any.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
