package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is a partition of a disk image as a block device. The kernel takes the
// device away when nothing has it open or mounted any more, so that it goes
// with the process that attached it, however that one ends.
type Loop struct {
	device *os.File
	image  string
}

// Attach makes a partition of a disk image a block device. It does not depend
// on the kernel reading the partition table. It needs root, and Linux 5.8.
func Attach(image *os.File, p Partition, readOnly bool) (*Loop, error) {
	flags := uint32(unix.LO_FLAGS_AUTOCLEAR)
	if readOnly {
		flags |= unix.LO_FLAGS_READ_ONLY
	}
	// Between asking for a free device and taking it another process may have
	// taken it; then the next one is asked for.
	for {
		device, err := freeLoop()
		if err != nil {
			return nil, fmt.Errorf("attach %s to a loop device: %w", image.Name(), err)
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{
			Fd: uint32(image.Fd()),
			Info: unix.LoopInfo64{
				Offset:    uint64(p.Start),
				Sizelimit: uint64(p.Size),
				Flags:     flags,
			},
		})
		if err == nil {
			return &Loop{device: device, image: image.Name()}, nil
		}
		if closeErr := device.Close(); closeErr != nil {
			return nil, closeErr
		}
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s to %s: %w; this needs root rights and Linux 5.8 or newer", image.Name(), device.Name(), err)
		}
	}
}

func freeLoop() (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w; load the kernel's loop module (modprobe loop), or give this container the host's /dev", err)
	}
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err := errors.Join(err, control.Close()); err != nil {
		return nil, fmt.Errorf("find a free one: %w", err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w; in a container, give it the host's /dev", err)
	}
	return device, nil
}

// Device is the path of the block device.
func (l *Loop) Device() string { return l.device.Name() }

// Detach gives the device up and waits until the kernel has let go of the
// image. It fails if something still holds the device when ctx ends.
func (l *Loop) Detach(ctx context.Context) error {
	before, err := unix.IoctlLoopGetStatus64(int(l.device.Fd()))
	if err := errors.Join(err, l.device.Close()); err != nil {
		return fmt.Errorf("detach %s: %w", l.Device(), err)
	}
	for {
		held, err := l.held(before)
		if err != nil {
			return err
		}
		if !held {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("detach %s from %s: it is still in use", l.image, l.Device())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// held says whether the device is still attached to the image it was, and not
// to one that another process has meanwhile put there.
func (l *Loop) held(before *unix.LoopInfo64) (bool, error) {
	device, err := os.Open(l.Device())
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", l.Device(), err)
	}
	now, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	if closeErr := device.Close(); closeErr != nil {
		return false, closeErr
	}
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", l.Device(), err)
	}
	return now.Device == before.Device && now.Inode == before.Inode && now.Offset == before.Offset, nil
}
