package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// volumes are those that an instance has besides its root volume. Each is a loop device, which lasts as long as
// its file is open or something on it is mounted; its partitions have no devices.
type volumes struct {
	mu       sync.Mutex
	attached map[string]*attached // by the name of the device
}

type attached struct {
	disk, loop *os.File
}

// add makes the loop device of a volume.
func (v *volumes) add(wanted Volume) (*attached, error) {
	disk, err := os.OpenFile(wanted.Disk, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the volume %s: %w", wanted.Device, err)
	}
	loop, err := openLoop(disk, volume{})
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	added := &attached{disk, loop}
	v.attached[wanted.Device] = added
	return added, nil
}

// binds are the options of systemd-nspawn that show volumes to a container from its start.
func (v *volumes) binds() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var binds []string
	for _, device := range slices.Sorted(maps.Keys(v.attached)) {
		binds = append(binds, fmt.Sprintf("--bind=%s:/dev/%s", v.attached[device].loop.Name(), device))
	}
	return binds
}

// take gives a volume out, for good; nil if it is not there.
func (v *volumes) take(device string) *attached {
	v.mu.Lock()
	defer v.mu.Unlock()
	taken := v.attached[device]
	delete(v.attached, device)
	return taken
}

// release lets go of all volumes and returns when their disks are free.
func (v *volumes) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseGrace)
	defer cancel()
	v.mu.Lock()
	devices := slices.Collect(maps.Keys(v.attached))
	v.mu.Unlock()
	var errs []error
	for _, device := range devices {
		errs = append(errs, v.take(device).release(ctx))
	}
	return errors.Join(errs...)
}

// release lets go of a volume and returns when its disk is free.
func (a *attached) release(ctx context.Context) error {
	if a == nil { // it was released with its instance
		return nil
	}
	err := errors.Join(a.loop.Close(), untilFree(ctx, a.loop.Name(), a.disk))
	return errors.Join(err, a.disk.Close())
}

func (i *instance) Attach(volume Volume) error {
	added, err := i.volumes.add(volume)
	if err != nil {
		return err
	}
	var stat unix.Stat_t
	if err = unix.Fstat(int(added.loop.Fd()), &stat); err == nil {
		err = i.inside(func() error { return unix.Mknod(inDev(volume.Device), unix.S_IFBLK|0o660, int(stat.Rdev)) })
	}
	if err != nil {
		err = fmt.Errorf("show %s to instance %s: %w", volume.Device, i.id, err)
		return errors.Join(err, i.volumes.take(volume.Device).release(context.Background()))
	}
	return nil
}

func (i *instance) Detach(ctx context.Context, device string) error {
	taken := i.volumes.take(device)
	if taken == nil {
		return fmt.Errorf("instance %s has no volume %s", i.id, device)
	}
	err := i.inside(func() error {
		_ = unix.Unmount(inDev(device), unix.MNT_DETACH) // where it was there from the start
		return unix.Unlink(inDev(device))
	})
	select {
	case <-i.done: // with its devices
		err = nil
	default:
	}
	return errors.Join(err, taken.release(ctx))
}

func inDev(device string) string { return filepath.Join("/dev", device) }

// inside runs f on a thread that sees the files that the container's init does.
func (i *instance) inside(f func() error) error {
	return i.withInit(func(handle int) error {
		result := make(chan error, 1)
		onThread(func() {
			err := unix.Unshare(unix.CLONE_FS) // which threads have in common
			if err == nil {
				err = unix.Setns(handle, unix.CLONE_NEWNS)
			}
			if err == nil {
				err = f()
			}
			result <- err
		})
		return <-result
	})
}
