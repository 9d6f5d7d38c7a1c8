package machine

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// victimDisk names the root volume to the process that is killed; see TestMain.
const victimDisk = "MACHINE_TEST_VICTIM_DISK"

func TestMain(m *testing.M) {
	if disk := os.Getenv(victimDisk); disk != "" {
		victim(disk)
	}
	os.Exit(m.Run())
}

// victim runs an instance until it is killed.
func victim(disk string) {
	host, err := New(network)
	if err == nil {
		_, err = host.Launch(context.Background(), specOf(10, disk, os.Stdout))
	}
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	select {}
}

func TestKilledSandboxLeavesNothing(t *testing.T) {
	disk := copyBase(t)
	before := interfaces(t)
	sandbox := exec.CommandContext(t.Context(), os.Args[0])
	sandbox.Env = append(os.Environ(), victimDisk+"="+disk)
	output, err := sandbox.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sandbox.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.Contains(lines.Text(), "Multi-User") {
	}
	processes := descendants(t, sandbox.Process.Pid)
	if len(processes) < 3 || len(loopsOf(t, disk)) != 1 {
		t.Fatalf("the instance does not run: processes %v, loop devices %v", processes, loopsOf(t, disk))
	}

	if err := sandbox.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sandbox.Wait() // says that it was killed
	waitFor(t, "every process ended", func() bool { return !slices.ContainsFunc(processes, runs) })
	waitFor(t, "the loop device went", func() bool { return len(loopsOf(t, disk)) == 0 })
	if after := interfaces(t); len(after) > len(before) {
		t.Errorf("interfaces are left: %v, before %v", after, before)
	}

	newHost(t) // the next one clears away the empty control groups
	if err := onMounts(func() error {
		left, err := filepath.Glob(filepath.Join(cgroups, cgroupName+strconv.Itoa(sandbox.Process.Pid)))
		if len(left) > 0 {
			t.Errorf("control groups are left: %v", left)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// descendants are the processes below one, by the parents that /proc tells.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // the name, in parentheses, may hold anything
		fields := strings.Fields(rest)
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		children[parent] = append(children[parent], child)
	}
	var found []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		found = append(found, next[0])
		next = append(next, children[next[0]]...)
	}
	return found
}

func runs(pid int) bool {
	_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
	return err == nil
}
