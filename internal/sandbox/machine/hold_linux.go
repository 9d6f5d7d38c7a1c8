package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// freezing is how long the kernel may take to bring a group's processes to a standstill.
const freezing = 10 * time.Second

// Hold freezes the machine's control group, in which processes can still be killed, and has its root
// filesystem written out.
func (i *instance) Hold(read func()) error {
	if err := writeGroup(i.group, "cgroup.freeze", "1"); err != nil {
		read() // it has ended
		return nil
	}
	defer func() { _ = writeGroup(i.group, "cgroup.freeze", "0") }() // it may have ended meanwhile
	err := errors.Join(i.frozen(), i.writeOut())
	read()
	select {
	case <-i.done:
		return nil
	default:
		return err
	}
}

// frozen waits until the group's processes stand still.
func (i *instance) frozen() error {
	for deadline := time.Now().Add(freezing); ; time.Sleep(time.Millisecond) {
		events, err := readGroup(i.group, "cgroup.events")
		if err != nil || strings.Contains(events, "frozen 1") {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("instance %s did not stand still within %s", i.id, freezing)
		}
	}
}

// writeOut writes what the kernel holds of the root filesystem to the volume.
func (i *instance) writeOut() error {
	container := inits(i.process.Load().Pid)
	if len(container) == 0 {
		return nil // it begins or has ended
	}
	root, err := os.Open(filepath.Join("/proc", fmt.Sprint(container[0]), "root"))
	if err != nil {
		return fmt.Errorf("write out the root volume of %s: %w", i.id, err)
	}
	return errors.Join(unix.Syncfs(int(root.Fd())), root.Close())
}

// A group is reached by its open directory, because other threads do not see its path.
func writeGroup(group *os.File, file, text string) error {
	fd, err := unix.Openat(int(group.Fd()), file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}

func readGroup(group *os.File, file string) (string, error) {
	fd, err := unix.Openat(int(group.Fd()), file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	text := make([]byte, 256)
	n, err := unix.Read(fd, text)
	return string(text[:max(n, 0)]), errors.Join(err, unix.Close(fd))
}
