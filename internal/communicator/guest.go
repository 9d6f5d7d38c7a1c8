package communicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// Guest gives the rooms that ask something of a machine their way into it over
// any of Packer's communicators. Where the communicator's user is not root,
// everything goes through sudo, which must not ask for a password.
func Guest(comm packersdk.Communicator) guest.Machine {
	return &machine{comm: comm}
}

type machine struct {
	comm packersdk.Communicator

	mu     sync.Mutex
	known  bool     // that become is right
	become []string // put before what is to run as root
}

// Run implements guest.Machine.
func (m *machine) Run(ctx context.Context, c guest.Command) (guest.Result, error) {
	become, err := m.rights(ctx)
	if err != nil {
		return guest.Result{}, err
	}
	argv := append([]string(nil), become...)
	if len(c.Env) > 0 {
		argv = append(append(argv, "env"), c.Env...)
	}
	return m.run(ctx, append(argv, c.Argv...), c.Say)
}

// Upload implements guest.Machine. A user who is not root can write a file of
// his own only, which root then installs.
func (m *machine) Upload(ctx context.Context, to string, content io.Reader, mode fs.FileMode) error {
	become, err := m.rights(ctx)
	if err != nil {
		return err
	}
	if len(become) == 0 {
		if err := m.transfer(ctx, to, content, mode); err != nil {
			return err
		}
		_, err := guest.Output(ctx, m, "chmod", fmt.Sprintf("%04o", mode.Perm()), to)
		return err
	}

	made, err := m.run(ctx, []string{"mktemp", "/var/tmp/immutable.XXXXXXXXXX"}, nil)
	if err != nil {
		return err
	}
	if made.Status != 0 {
		return fmt.Errorf("make a temporary file in the machine: %s", strings.TrimSpace(made.Stderr))
	}
	temporary := strings.TrimSpace(made.Stdout)
	err = m.transfer(ctx, temporary, content, 0o600)
	if err == nil {
		_, err = guest.Output(ctx, m, "install", "-o", "root", "-g", "root", "-m", fmt.Sprintf("%04o", mode.Perm()), "--", temporary, to)
	}
	_, cleanup := guest.Output(context.WithoutCancel(ctx), m, "rm", "-f", "--", temporary)
	return errors.Join(err, cleanup)
}

// transfer tells the communicator the size where it is known: it would else
// make a copy of the content to find it out.
func (m *machine) transfer(ctx context.Context, to string, content io.Reader, mode fs.FileMode) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var info *os.FileInfo
	if sized, ok := content.(interface{ Size() int64 }); ok {
		file := os.FileInfo(fileInfo{path.Base(to), sized.Size(), mode})
		info = &file
	}
	if err := m.comm.Upload(to, content, info); err != nil {
		return fmt.Errorf("upload %s: %w", to, err)
	}
	return nil
}

// rights finds out, once, how to become root.
func (m *machine) rights(ctx context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known {
		return m.become, nil
	}
	id, err := m.run(ctx, []string{"id", "-u"}, nil)
	if err != nil {
		return nil, err
	}
	user := strings.TrimSpace(id.Stdout)
	if id.Status != 0 || user == "" {
		return nil, fmt.Errorf("find out who the communicator's user is: id ended with status %d: %s", id.Status, strings.TrimSpace(id.Stderr))
	}
	if user != "0" {
		become := []string{"sudo", "-n", "--"}
		test, err := m.run(ctx, append(become, "true"), nil)
		if err != nil {
			return nil, err
		}
		if test.Status != 0 {
			return nil, fmt.Errorf("the communicator's user (uid %s) is not root and can't become root by sudo: %s; connect as root, or allow that user sudo without a password", user, strings.TrimSpace(test.Stderr))
		}
		m.become = become
	}
	m.known = true
	return m.become, nil
}

// run runs an argument vector as it is, by the one means that every
// communicator has: a line for a shell.
func (m *machine) run(ctx context.Context, argv []string, say func(string)) (guest.Result, error) {
	out := &output{say: say}
	defer out.end()
	stdout, stderr := &stream{out: out}, &stream{out: out}
	cmd := &packersdk.RemoteCmd{Command: guest.Quote(argv...), Stdout: stdout, Stderr: stderr}
	if err := m.comm.Start(ctx, cmd); err != nil {
		return guest.Result{}, fmt.Errorf("run %s in the machine: %w", argv[0], err)
	}

	ended := make(chan int, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		return guest.Result{}, context.Cause(ctx)
	case status := <-ended:
		if status == packersdk.CmdDisconnect {
			return guest.Result{}, fmt.Errorf("run %s in the machine: the connection was lost", argv[0])
		}
		return guest.Result{Status: status, Stdout: stdout.text(), Stderr: stderr.text()}, nil
	}
}

// output passes the lines of both streams on, until its end: a command that
// was given up may still write.
type output struct {
	mu    sync.Mutex
	ended bool
	say   func(string)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

type stream struct {
	out  *output
	all  bytes.Buffer
	said int // of all, how much has been passed on
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.ended {
		return len(p), nil
	}
	s.all.Write(p)
	for {
		line, _, whole := bytes.Cut(s.all.Bytes()[s.said:], []byte("\n"))
		if !whole {
			return len(p), nil
		}
		s.said += len(line) + 1
		s.pass(line)
	}
}

func (s *stream) pass(line []byte) {
	if line = bytes.TrimRight(line, "\r"); s.out.say != nil && len(line) > 0 {
		s.out.say(string(line))
	}
}

// text is the whole of what the stream carried. What was left of a last line
// without an end is passed on.
func (s *stream) text() string {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.pass(s.all.Bytes()[s.said:])
	s.said = s.all.Len()
	return s.all.String()
}

// fileInfo is what communicators ask of a file that they transfer.
type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (f fileInfo) Name() string       { return f.name }
func (f fileInfo) Size() int64        { return f.size }
func (f fileInfo) Mode() fs.FileMode  { return f.mode }
func (f fileInfo) ModTime() time.Time { return time.Time{} }
func (f fileInfo) IsDir() bool        { return false }
func (f fileInfo) Sys() any           { return nil }
