package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups is where an instance's thread has the cgroup2 hierarchy mounted, whatever the machine underneath uses.
const cgroups = "/sys/fs/cgroup"

// cgroupName begins the name of each sandbox's control group; the number of its process follows.
const cgroupName = "immutable-sandbox-"

// ownCgroup is the parent of this process's instances' control groups.
func ownCgroup() string { return filepath.Join(cgroups, cgroupName+strconv.Itoa(os.Getpid())) }

// makeCgroup makes the control group of one start of an instance. Each needs one of its own: systemd-nspawn
// puts the container into "payload" below the group that it is started in, and two systemds in one group
// would kill each other's services.
func makeCgroup(instance string) (dir string, err error) {
	if err = os.MkdirAll(ownCgroup(), 0o755); err == nil {
		dir, err = os.MkdirTemp(ownCgroup(), instance+"-")
	}
	if err != nil {
		return "", fmt.Errorf("make the control group of %s: %w", instance, err)
	}
	return dir, nil
}

// killCgroup kills all processes of a group and of those below. The group is
// reached by its open directory, because other threads do not see its path.
// Before Linux 5.14 it does nothing.
func killCgroup(group *os.File) error {
	fd, err := unix.Openat(int(group.Fd()), "cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Join(group.Name(), "cgroup.kill"), Err: err}
	}
	_, err = unix.Write(fd, []byte("1"))
	return errors.Join(err, unix.Close(fd))
}

// removeCgroup kills what is left in a group and below, and removes it.
func removeCgroup(dir string, patience time.Duration) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kill what is left in %s: %w", dir, err) // before Linux 5.14 there is no such file
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := removeTree(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// removeOwnCgroup removes the parent, unless another host of this process has instances.
func removeOwnCgroup() error {
	err := os.Remove(ownCgroup())
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return err
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
	for _, group := range groups {
		process := strings.TrimPrefix(filepath.Base(group), cgroupName)
		if _, err := os.Stat(filepath.Join("/proc", process)); errors.Is(err, os.ErrNotExist) {
			_ = removeTree(group) // not where its process is only in a container of its own: it is in use
		}
	}
	return nil
}
