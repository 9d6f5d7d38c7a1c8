package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Sandbox is a running `sandbox` command.
type Sandbox struct {
	// URL is the endpoint of every service.
	URL string

	process *exec.Cmd
	log     string // what it prints; a file, so that it can outlive this process
	ended   chan struct{}
}

// Start starts the plugin's sandbox command with args added and waits until it
// is ready. Its state is kept below the stage.
func (s *Stage) Start(ctx context.Context, args ...string) (*Sandbox, error) {
	ready := filepath.Join(s.Dir, "sandbox.url")
	args = append([]string{"sandbox", "--listen", "127.0.0.1:0", "--state", filepath.Join(s.Dir, "sandbox"), "--ready-file", ready}, args...)
	process := exec.CommandContext(ctx, s.Plugin, args...)
	process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
	process.WaitDelay = 30 * time.Second
	process.Env = s.environ()
	box := &Sandbox{process: process, log: filepath.Join(s.Dir, "sandbox.log"), ended: make(chan struct{})}
	if err := os.MkdirAll(filepath.Join(s.Dir, "sandbox"), 0o700); err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	if err := os.Remove(ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("start the sandbox: %w", err) // of an earlier start
	}
	log, err := os.Create(box.log)
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	process.Stdout, process.Stderr = log, log
	err = process.Start()
	if err := errors.Join(err, log.Close()); err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	go func() {
		_ = process.Wait() // how it ended is asked of ProcessState
		close(box.ended)
	}()

	patience := time.After(2 * time.Minute)
	for {
		url, err := os.ReadFile(ready)
		if err == nil {
			box.URL = strings.TrimSpace(string(url))
			return box, nil
		}
		select {
		case <-box.ended:
			return nil, fmt.Errorf("the sandbox ended before it was ready: %s\n%s", process.ProcessState, box.Output())
		case <-patience:
			return nil, errors.Join(fmt.Errorf("the sandbox was not ready after two minutes\n%s", box.Output()), box.Stop())
		case <-time.After(20 * time.Millisecond):
		}
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
		return fmt.Errorf("the sandbox did not end within a minute and was killed\n%s", b.Output())
	}
	if !b.process.ProcessState.Success() {
		return fmt.Errorf("the sandbox ended with %s\n%s", b.process.ProcessState, b.Output())
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

// Output is what the sandbox printed.
func (b *Sandbox) Output() string {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Environ addresses the sandbox from AWS clients and SDKs: endpoint, region
// and credentials. The sandbox takes any key; its call log names it.
func (b *Sandbox) Environ(accessKey string) []string { return environ(b.URL, accessKey) }

func environ(url, accessKey string) []string {
	return []string{
		"AWS_ENDPOINT_URL=" + url,
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
