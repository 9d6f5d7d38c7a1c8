package bake

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controlGroups are those of one container. Without groups of its own, the
// systemd of one bake would take the services of another for its own.
type controlGroups struct {
	paths []string
}

// recordOfGroups is the file in a work directory that lists its control
// groups, for the run that finds the directory when this one has died.
const recordOfGroups = "cgroups"

// newControlGroups makes a group below this process's own in each hierarchy
// that systemd uses: the unified one, and on older hosts its own.
func newControlGroups(dir string) (controlGroups, error) {
	var g controlGroups
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return g, fmt.Errorf("find the control group of this process: %w", err)
	}
	name := "immutable-" + rand.Text()
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		var top string
		switch {
		case fields[1] == "name=systemd":
			top = "/sys/fs/cgroup/systemd"
		case fields[0] == "0":
			top = unified()
		}
		if top != "" {
			g.paths = append(g.paths, filepath.Join(top, fields[2], name))
		}
	}
	record := []byte(strings.Join(g.paths, "\n"))
	if err := os.WriteFile(filepath.Join(dir, recordOfGroups), record, 0o600); err != nil {
		return g, fmt.Errorf("note the container's control groups: %w", err)
	}
	for _, path := range g.paths {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return g, fmt.Errorf("make a control group for the container: %w; in a container, /sys/fs/cgroup must be writable", err)
		}
	}
	return g, nil
}

// unified is where the unified hierarchy is mounted; "" where it is not.
func unified() string {
	for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var s unix.Statfs_t
		if err := unix.Statfs(top, &s); err == nil && s.Type == unix.CGROUP2_SUPER_MAGIC {
			return top
		}
	}
	return ""
}

// have says whether a process is in one of the groups, or below.
func (g controlGroups) have(pid int) bool {
	in, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && slices.ContainsFunc(g.paths, func(path string) bool {
		return strings.Contains(string(in), "/"+filepath.Base(path)+"/")
	})
}

// readControlGroups reads the groups noted in a work directory; a directory
// without a note has none.
func readControlGroups(dir string) (controlGroups, error) {
	record, err := os.ReadFile(filepath.Join(dir, recordOfGroups))
	if errors.Is(err, os.ErrNotExist) {
		return controlGroups{}, nil
	}
	// One a line: the name of a group may have spaces.
	return controlGroups{strings.FieldsFunc(string(record), func(r rune) bool { return r == '\n' })}, err
}

// remove removes the groups, whose processes are all ending, and the groups
// that the container made in them.
func (g controlGroups) remove(ctx context.Context) error {
	for _, top := range g.paths {
		var below []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				below = append(below, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove control group %s: %w", top, err)
		}
		slices.Reverse(below) // the innermost first
		for _, path := range below {
			if err := removeGroup(ctx, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGroup waits for the last process of the group to be reaped.
func removeGroup(ctx context.Context, path string) error {
	for {
		err := os.Remove(path)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove control group: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove control group: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
