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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PluginSource is the address under which packer knows the plugin.
const PluginSource = "github.com/immutable-server/immutable"

// Packer is one command line of the packer binary.
type Packer struct {
	// Dir is the working directory.
	Dir string

	// Env is added to the environment.
	Env []string

	// As, if set, is the user who runs packer, by way of setpriv.
	As string

	// Args are the arguments: "build", "-var", ….
	Args []string

	// Echo, if set, is given every line as it comes.
	Echo io.Writer

	// EachLine, if set, is called for every line as it comes; a test
	// interrupts or kills the build from here.
	EachLine func(line string, packer *exec.Cmd)
}

// Output is what packer printed, line by line.
type Output struct {
	Lines []Line
}

// Line is one line of output without colours, and the time since the start at
// which it came.
type Line struct {
	At   time.Duration
	Text string
}

func (o Output) String() string {
	var all strings.Builder
	for _, line := range o.Lines {
		all.WriteString(line.Text + "\n")
	}
	return all.String()
}

// Find gives the submatches of the first line that matches, or nil.
func (o Output) Find(pattern string) []string {
	expression := regexp.MustCompile(pattern)
	for _, line := range o.Lines {
		if match := expression.FindStringSubmatch(line.Text); match != nil {
			return match
		}
	}
	return nil
}

// AMI is the one that packer names in its list of artifacts, at the end.
func (o Output) AMI() (string, error) {
	for _, line := range slices.Backward(o.Lines) {
		if _, rest, ok := strings.Cut(line.Text, Region+":"); ok {
			if ami := strings.TrimSpace(rest); strings.HasPrefix(ami, "ami-") {
				return ami, nil
			}
		}
	}
	return "", fmt.Errorf("packer named no AMI:\n%s", o)
}

// At is the time of the first line that matches; ok tells whether one does.
func (o Output) At(pattern string) (at time.Duration, ok bool) {
	expression := regexp.MustCompile(pattern)
	for _, line := range o.Lines {
		if expression.MatchString(line.Text) {
			return line.At, true
		}
	}
	return 0, false
}

// InstallPlugin installs the stage's plugin binary where packer looks for it.
func (s *Stage) InstallPlugin(ctx context.Context) error {
	_, err := s.Packer(ctx, Packer{Args: []string{"plugins", "install", "--path", s.Plugin, PluginSource}})
	return err
}

// Packer runs packer on the stage. An exit code other than zero is an
// *exec.ExitError; what packer printed comes with it.
func (s *Stage) Packer(ctx context.Context, run Packer) (Output, error) {
	argv := append([]string{s.PackerBinary}, run.Args...)
	if run.As != "" {
		argv = append([]string{"setpriv", "--reuid=" + run.As, "--clear-groups"}, argv...)
	}
	process := exec.CommandContext(ctx, argv[0], argv[1:]...)
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	process.Cancel = func() error { return Interrupt(process) }
	process.WaitDelay = time.Minute
	process.Dir = run.Dir
	process.Env = append(s.environ(
		"PACKER_PLUGIN_PATH="+filepath.Join(s.Dir, "plugins"),
		"PACKER_CONFIG_DIR="+filepath.Join(s.Dir, "home"),
		"PACKER_CACHE_DIR="+s.Cache,
		"PACKER_NO_COLOR=1",
		"CHECKPOINT_DISABLE=1",
	), run.Env...)

	read, write := io.Pipe()
	process.Stdout, process.Stderr = write, write

	var output Output
	start := time.Now()
	if err := process.Start(); err != nil {
		return output, fmt.Errorf("start packer: %w", err)
	}
	finished := make(chan error, 1)
	go func() {
		err := process.Wait()
		_ = write.Close() // an in-memory pipe; its close never fails
		finished <- err
	}()

	lines := bufio.NewScanner(read)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := Line{At: time.Since(start), Text: lines.Text()}
		output.Lines = append(output.Lines, line)
		if run.Echo != nil {
			if _, err := fmt.Fprintln(run.Echo, line.Text); err != nil {
				return output, err
			}
		}
		if run.EachLine != nil {
			run.EachLine(line.Text, process)
		}
	}
	if err := <-finished; err != nil {
		return output, fmt.Errorf("packer %s: %w", strings.Join(run.Args, " "), err)
	}
	return output, lines.Err()
}

// Interrupt is what Ctrl-C in a terminal is: it reaches packer, the plugin and
// all that they have started in their process group.
func Interrupt(packer *exec.Cmd) error { return syscall.Kill(-packer.Process.Pid, syscall.SIGINT) }

// InterruptBuild is Interrupt for the build on this stage; there must be one.
func (s *Stage) InterruptBuild() error {
	processes, err := s.build()
	if err != nil || len(processes) == 0 {
		return errors.Join(fmt.Errorf("interrupt packer: found processes %v", processes), err)
	}
	// Packer and its plugins are one process group.
	group, err := syscall.Getpgid(processes[0])
	if err != nil {
		return fmt.Errorf("interrupt packer: %w", err)
	}
	return syscall.Kill(-group, syscall.SIGINT)
}

// KillBuild ends packer, and every process of the plugin that it started, as a
// crash would: with SIGKILL. The sandbox is left alone, and so is what the
// plugin started: it must end by itself when the plugin does.
func (s *Stage) KillBuild() error {
	processes, err := s.build()
	errs := []error{err}
	// None may see another's end, and clean up what that has left.
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, process := range processes {
			if err := syscall.Kill(process, signal); !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// build gives the processes of packer and of its plugins.
func (s *Stage) build() (processes []int, err error) {
	err = eachProcess(func(pid string) error {
		environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		if err != nil {
			return err
		}
		// The sandbox has no cache; all else on stage that has one is packer's.
		text := "\x00" + string(environ)
		if !strings.Contains(text, "\x00"+s.marker+"\x00") || !strings.Contains(text, "\x00PACKER_CACHE_DIR=") {
			return nil
		}
		number, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		executable, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
		if err != nil {
			return err
		}
		if strings.Contains(filepath.Base(executable), "packer") {
			processes = append(processes, number)
		}
		return nil
	})
	return processes, err
}
