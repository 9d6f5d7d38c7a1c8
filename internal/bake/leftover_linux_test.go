package bake_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
)

// victim is set in the environment of a process that bakes until it is killed.
const victim = "BAKE_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		bakeUntilKilled(dir, os.Getenv(victim+"_MACHINE"), os.Getenv(victim+"_BASE"))
	}
	if err := os.Setenv("LEAK", "the host's environment"); err != nil {
		panic(err)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "bake-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(scratch); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// bakeUntilKilled bakes in a work directory under parent, and says so when a
// command is running inside.
func bakeUntilKilled(parent, machine, base string) {
	die := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := bake.OpenDir(parent)
	if err != nil {
		die(err)
	}
	if out, err := exec.CommandContext(context.Background(), "cp", "--sparse=always", base, dir.Path("disk.raw")).CombinedOutput(); err != nil {
		die(fmt.Errorf("%w: %s", err, out))
	}
	b := bake.Bake{Disk: dir.Path("disk.raw"), Machine: machine, Dir: dir.Path(), Ui: new(lines)}
	die(b.Run(context.Background(), func(ctx context.Context, m bake.Machine) error {
		_, err := m.Run(ctx, bake.Command{
			Argv:   []string{"sh", "-c", "(exec 3>>/opt/busy; setsid sleep 5555) & echo " + dir.Path() + "; wait"},
			Stdout: os.Stdout,
		})
		return err
	}))
}

func TestAKilledBakeLeavesOnlyItsDirectoryForTheNextToRemove(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, _ := onBase(t, kind) // only for the path of a base
		parent := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victim+"="+parent, victim+"_MACHINE="+kind, victim+"_BASE="+b.Disk)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		dir := strings.TrimSpace(line)
		if left := leftOf(t, dir); len(left) == 0 {
			t.Fatal("the bake is not seen while it runs, so its absence would prove nothing")
		}
		groups := madeGroups(t, dir)
		if want := kind == bake.Container; len(groups) > 0 != want {
			t.Errorf("the bake has the control groups %q", groups)
		}
		other, err := bake.OpenDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("another run removed the directory of one that is alive: %v", err)
		}

		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		eventuallyNothing(t, dir)

		next, err := bake.OpenDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the next run left the dead one's directory: %v", err)
		}
		for _, group := range groups {
			if _, err := os.Stat(group); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the next run left the control group %s: %v", group, err)
			}
		}
		if err := errors.Join(other.Close(), next.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestACancelledBakeLeavesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, _ := onBase(t, kind)
		reason := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		err := b.Run(ctx, func(ctx context.Context, m bake.Machine) error {
			_, err := m.Run(ctx, bake.Command{
				Argv:   []string{"sh", "-c", "setsid sleep 6666 & echo started; wait"},
				Stdout: notifyingWriter{func() { cancel(reason) }},
			})
			return err
		})
		if !errors.Is(err, reason) {
			t.Errorf("Run() = %v, want the context's cause", err)
		}
		nothingLeft(t, b)
	})
}

func TestAProvisionersErrorLeavesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, _ := onBase(t, kind)
		failed := errors.New("the script failed")
		err := b.Run(t.Context(), func(context.Context, bake.Machine) error { return failed })
		if !errors.Is(err, failed) {
			t.Errorf("Run() = %v", err)
		}
		nothingLeft(t, b)
	})
}

func TestABakeCancelledWhileItStartsLeavesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, _ := onBase(t, kind)
		for _, after := range []time.Duration{0, 20 * time.Millisecond, 80 * time.Millisecond, 300 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			baking, err := b.Start(ctx)
			cancel()
			if err == nil {
				err = baking.Close()
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Start() cancelled after %v = %v", after, err)
			}
			nothingLeft(t, b)
		}
	})
}

func nothingLeft(t *testing.T, b bake.Bake) {
	t.Helper()
	if left := append(leftOf(t, b.Dir), groupsOf(t, b.Dir)...); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// eventuallyNothing waits for the kernel to end what a killed process had.
func eventuallyNothing(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		left := leftOf(t, dir)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %q", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leftOf lists the loop devices on files below a directory, and the processes
// that see a mount below it.
func leftOf(t *testing.T, dir string) (left []string) {
	t.Helper()
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, loop := range loops {
		if file, err := os.ReadFile(loop); err == nil && strings.HasPrefix(string(file), dir+"/") {
			left = append(left, loop+": "+strings.TrimSpace(string(file)))
		}
	}
	mounts, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range mounts {
		if mounted, err := os.ReadFile(path); err == nil && strings.Contains(string(mounted), " "+dir+"/") {
			left = append(left, path)
		}
	}
	return left
}

// groupsOf lists the control groups that were made for a work directory and
// are still there.
func groupsOf(t *testing.T, dir string) (left []string) {
	t.Helper()
	for _, path := range madeGroups(t, dir) {
		if _, err := os.Stat(path); err == nil {
			left = append(left, path)
		}
	}
	return left
}

func madeGroups(t *testing.T, dir string) []string {
	t.Helper()
	record, err := os.ReadFile(filepath.Join(dir, "cgroups"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(record))
}
