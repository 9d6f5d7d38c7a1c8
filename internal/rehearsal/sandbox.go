package rehearsal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// readyPrefix begins the line with which the sandbox command says where it
// listens.
const readyPrefix = "sandbox ready on "

// Sandbox is a running `sandbox` command.
type Sandbox struct {
	// URL is the endpoint of every service.
	URL string

	stage   *Stage
	process *exec.Cmd
	output  *tail
	ended   chan struct{}
}

// Start starts the plugin's sandbox command with args added and waits until it
// is ready. Its state is kept below the stage.
func (s *Stage) Start(ctx context.Context, args ...string) (*Sandbox, error) {
	args = append([]string{"sandbox", "--listen", "127.0.0.1:0", "--state", filepath.Join(s.Dir, "sandbox")}, args...)
	process := exec.CommandContext(ctx, s.Plugin, args...)
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	process.WaitDelay = 30 * time.Second
	process.Env = s.environ()
	box := &Sandbox{stage: s, process: process, output: new(tail), ended: make(chan struct{})}
	process.Stderr = box.output
	stdout, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}

	ready := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if url, ok := strings.CutPrefix(lines.Text(), readyPrefix); ok {
				ready <- strings.TrimSpace(url)
			}
			fmt.Fprintln(box.output, lines.Text())
		}
		_ = process.Wait() // how it ended is asked of ProcessState
		close(box.ended)
	}()

	select {
	case box.URL = <-ready:
		return box, nil
	case <-box.ended:
		return nil, fmt.Errorf("the sandbox ended before it was ready: %s\n%s", process.ProcessState, box.output)
	case <-time.After(2 * time.Minute):
		return nil, errors.Join(fmt.Errorf("the sandbox was not ready after two minutes\n%s", box.output), box.Stop())
	}
}

// Stop ends the sandbox and waits until it is gone.
func (b *Sandbox) Stop() error {
	if err := b.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the sandbox: %w", err)
	}
	select {
	case <-b.ended:
	case <-time.After(time.Minute):
		_ = b.process.Process.Kill() // it did not listen; Wait tells the rest
		<-b.ended
		return fmt.Errorf("the sandbox did not end within a minute and was killed\n%s", b.output)
	}
	if !b.process.ProcessState.Success() {
		return fmt.Errorf("the sandbox ended with %s\n%s", b.process.ProcessState, b.output)
	}
	return nil
}

// Kill ends the sandbox as a crash would.
func (b *Sandbox) Kill() {
	_ = b.process.Process.Kill() // it may have ended already
	<-b.ended
}

// PID is the sandbox's process id.
func (b *Sandbox) PID() int { return b.process.Process.Pid }

// Output is the end of what the sandbox printed.
func (b *Sandbox) Output() string { return b.output.String() }

// Environ addresses the sandbox from AWS clients and SDKs: endpoint, region
// and credentials. The sandbox takes any key; its call log names it.
func (b *Sandbox) Environ(accessKey string) []string {
	return []string{
		"AWS_ENDPOINT_URL=" + b.URL,
		"AWS_REGION=" + Region,
		"AWS_ACCESS_KEY_ID=" + accessKey,
		"AWS_SECRET_ACCESS_KEY=rehearsal",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Config is the SDK's configuration for the sandbox.
func (b *Sandbox) Config() aws.Config {
	return aws.Config{
		Region:       Region,
		BaseEndpoint: aws.String(b.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIAREHEARSAL", "rehearsal", ""),
	}
}

// tail keeps the last lines that were written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 64 << 10

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
