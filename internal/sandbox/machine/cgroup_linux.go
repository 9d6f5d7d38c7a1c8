package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroups is where an instance's thread has the cgroup2 hierarchy mounted, whatever the machine underneath uses.
const cgroups = "/sys/fs/cgroup"

// cgroupName begins the name of each sandbox's control group; the number of its process follows.
const cgroupName = "immutable-sandbox-"

// Every instance needs a control group of its own: systemd-nspawn puts the container into "payload" below
// the group that it is started in, and two systemds in one group would kill each other's services.
func makeCgroup(instance string) (dir string, err error) {
	dir = filepath.Join(cgroups, cgroupName+strconv.Itoa(os.Getpid()), instance)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the control group of %s: %w", instance, err)
	}
	return dir, nil
}

// removeCgroup kills what is left in a group and below, and removes it with the sandbox's own when that is empty.
func removeCgroup(dir string, patience time.Duration) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kill what is left in %s: %w", dir, err) // before Linux 5.14 there is no such file
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := removeTree(dir)
		if err == nil || time.Now().After(deadline) {
			_ = os.Remove(filepath.Dir(dir)) // in use by another instance, or the last went with it
			return err
		}
	}
}

// removeTree removes the directories of a control group; the files in them go along.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = os.Remove(dirs[i])
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// sweepCgroups removes the empty groups of sandboxes that were killed: the one trace that they leave.
func sweepCgroups() error {
	groups, err := filepath.Glob(filepath.Join(cgroups, cgroupName+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, group := range groups {
		process := strings.TrimPrefix(filepath.Base(group), cgroupName)
		if _, err := os.Stat(filepath.Join("/proc", process)); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, removeTree(group))
		}
	}
	return errors.Join(errs...)
}
