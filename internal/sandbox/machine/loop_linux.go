package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// loopTries is how often another process may be faster in taking the loop device that the kernel named as free.
const loopTries = 64

// openLoop makes a loop device of a part of a disk. The kernel takes it apart again when the
// returned file is closed and nothing on it is mounted.
func openLoop(disk *os.File, part volume) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a loop device: %w; load the kernel module loop", err)
	}
	defer func() { _ = control.Close() }() // nothing was written
	for range loopTries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := loopNode(number)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{
			Fd: uint32(disk.Fd()),
			Info: unix.LoopInfo64{
				Offset:    uint64(part.offset),
				Sizelimit: uint64(part.size),
				Flags:     unix.LO_FLAGS_AUTOCLEAR,
			},
		})
		if err == nil {
			return device, nil
		}
		err = errors.Join(err, device.Close())
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("make a loop device of %s: %w", disk.Name(), err)
		}
	}
	return nil, fmt.Errorf("make a loop device of %s: others took %d free ones first; try again", disk.Name(), loopTries)
}

// loopNode opens a loop device, making its node where /dev is not kept by the kernel, as in most containers.
func loopNode(number int) (*os.File, error) {
	const major = 7
	path := fmt.Sprintf("/dev/loop%d", number)
	device, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return device, err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
}

// untilFree waits until a loop device has let go of a disk, which takes as long as anything on it is mounted.
func untilFree(ctx context.Context, device string, disk *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(disk.Fd()), &stat); err != nil {
		return err
	}
	for {
		holds, err := loopHolds(device, stat.Ino)
		if err != nil || !holds {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s still holds %s (%w); see lsof %s", device, disk.Name(), ctx.Err(), device)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// loopHolds tells whether a loop device has the disk with an inode number.
func loopHolds(path string, inode uint64) (bool, error) {
	device, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = device.Close() }() // nothing was written
	info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	return err == nil && info.Inode == inode, err
}
