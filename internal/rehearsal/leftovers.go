package rehearsal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// processes finds the processes that inherited the stage's marker, but for the
// one that asks.
func (s *Stage) processes() ([]string, error) {
	var found []string
	err := eachProcess(func(pid string) error {
		environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		if err != nil {
			return err
		}
		for variable := range bytes.SplitSeq(environ, []byte{0}) {
			if string(variable) == s.marker {
				command, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
				if err != nil {
					return err
				}
				found = append(found, fmt.Sprintf("process %s: %s", pid, bytes.ReplaceAll(bytes.TrimRight(command, "\x00"), []byte{0}, []byte{' '})))
			}
		}
		return nil
	})
	return found, err
}

// mounts finds mounts of, or on, something below the stage, in every mount
// namespace that a process lives in.
func (s *Stage) mounts() ([]string, error) {
	var found []string
	seen := map[string]bool{}
	err := eachProcess(func(pid string) error {
		namespace, err := os.Readlink(filepath.Join("/proc", pid, "ns/mnt"))
		if err != nil || seen[namespace] {
			return err
		}
		seen[namespace] = true
		table, err := os.ReadFile(filepath.Join("/proc", pid, "mountinfo"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(table)) {
			if strings.Contains(line, s.Dir+"/") {
				found = append(found, "mount: "+strings.TrimSpace(line))
			}
		}
		return nil
	})
	return found, err
}

// loopDevices finds loop devices whose backing file is below the stage.
func (s *Stage) loopDevices() ([]string, error) {
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, path := range backing {
		file, err := os.ReadFile(path)
		if gone(err) {
			continue
		}
		if err != nil {
			return found, err
		}
		if strings.HasPrefix(string(file), s.Dir+"/") {
			found = append(found, fmt.Sprintf("loop device %s: %s", strings.Split(path, "/")[3], bytes.TrimSpace(file)))
		}
	}
	return found, nil
}

// networkNamespaces finds named network namespaces; namespaces without a name
// live only as long as a process, and processes are looked for.
func (s *Stage) networkNamespaces() ([]string, error) {
	entries, err := os.ReadDir("/run/netns")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "immutable") {
			found = append(found, "network namespace "+entry.Name())
		}
	}
	return found, err
}

// temporaryFiles finds what is left in the stage's TMPDIR.
func (s *Stage) temporaryFiles() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.Dir, "tmp"))
	var found []string
	for _, entry := range entries {
		found = append(found, "temporary file "+filepath.Join(s.Dir, "tmp", entry.Name()))
	}
	return found, err
}

// eachProcess calls look for every process but this one; a process that ends
// meanwhile is passed over.
func eachProcess(look func(pid string) error) error {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	self := fmt.Sprint(os.Getpid())
	for _, process := range processes {
		pid := filepath.Base(process)
		if pid == self {
			continue
		}
		if err := look(pid); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// gone tells that something vanished between being listed and being read, or
// that it is not even root's to read, as some hosts' first process: ours are.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL)
}
