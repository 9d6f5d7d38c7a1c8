// Package guesttest has a machine for tests of decisions: it runs nothing, and
// remembers what it was asked.
package guesttest

import (
	"context"
	"io"
	"io/fs"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// Machine answers commands from Answers.
type Machine struct {
	// Answers has results by how the command begins, its arguments joined by
	// spaces; the longest match counts. Other commands succeed in silence.
	Answers map[string]guest.Result
	// Ran are the commands run, their arguments joined by spaces.
	Ran []string
	// Uploaded are the files uploaded, by path.
	Uploaded map[string]string
}

// Run implements guest.Machine.
func (m *Machine) Run(ctx context.Context, c guest.Command) (guest.Result, error) {
	if err := ctx.Err(); err != nil {
		return guest.Result{}, err
	}
	line := strings.Join(c.Argv, " ")
	m.Ran = append(m.Ran, line)
	var best string
	for start := range m.Answers {
		if strings.HasPrefix(line, start) && len(start) >= len(best) {
			best = start
		}
	}
	result := m.Answers[best]
	if c.Say != nil {
		for l := range strings.Lines(result.Stdout + result.Stderr) {
			c.Say(strings.TrimRight(l, "\n"))
		}
	}
	return result, nil
}

// Upload implements guest.Machine.
func (m *Machine) Upload(_ context.Context, path string, content io.Reader, _ fs.FileMode) error {
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if m.Uploaded == nil {
		m.Uploaded = map[string]string{}
	}
	m.Uploaded[path] = string(text)
	return nil
}

// RanWith tells whether a command was run that has the text in it.
func (m *Machine) RanWith(text string) bool {
	for _, line := range m.Ran {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}
