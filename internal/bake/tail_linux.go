package bake

import (
	"strings"
	"sync"
)

// tail keeps the end of what is written to it, for error messages.
type tail struct {
	mu   sync.Mutex
	last []byte
}

// tailSize is how much is kept, in bytes.
const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	t.last = t.last[max(0, len(t.last)-tailSize):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if said := strings.TrimSpace(string(t.last)); said != "" {
		return said
	}
	return "it said nothing"
}
