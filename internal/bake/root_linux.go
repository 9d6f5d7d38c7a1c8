package bake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// root is the root partition of the disk.
type root struct {
	partition disk.Partition
	kind      string // of the filesystem
	loop      *disk.Loop
}

// mountOptions are per filesystem. Reading does not change a file's time. An
// xfs is mounted even if another with the same UUID is: the host itself may
// run from the very image.
var mountOptions = map[string]struct{ write, probe string }{
	"xfs":   {"noatime,nouuid", "ro,nouuid,norecovery"},
	"ext4":  {"noatime", "ro,noload"},
	"btrfs": {"noatime", "ro,rescue=nologreplay"},
}

// findRoot finds the partition with the Linux root among those that may hold
// it: it has an os-release. Nothing is written.
func (k *Baking) findRoot(ctx context.Context, image *os.File, size int64) (root, error) {
	candidates, err := disk.Roots(image, size)
	if err != nil {
		return root{}, fmt.Errorf("%s: %w", image.Name(), err)
	}
	var seen []string
	for _, p := range candidates {
		kind, err := disk.Filesystem(image, p)
		if err != nil {
			return root{}, err
		}
		r := root{partition: p, kind: kind}
		found, err := k.probe(ctx, image, r)
		if err != nil {
			return root{}, fmt.Errorf("%s: look for the root filesystem in %v: %w", image.Name(), p, err)
		}
		if found {
			return r, nil
		}
		seen = append(seen, fmt.Sprintf("%v (%s)", p, kind))
	}
	return root{}, fmt.Errorf("%s: no Linux root partition: none of its filesystems, %s, has an /etc/os-release", image.Name(), strings.Join(seen, ", "))
}

// probe mounts a partition for reading and looks for an os-release.
func (k *Baking) probe(ctx context.Context, image *os.File, r root) (found bool, err error) {
	r.loop, err = disk.Attach(image, r.partition, true)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.loop.Detach(ctx)) }()
	if err := k.mount(ctx, r, mountOptions[r.kind].probe); err != nil {
		return false, err
	}
	top, err := k.open()
	if err == nil {
		for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
			found = found || existsIn(top, name)
		}
		err = top.Close()
	}
	if err = errors.Join(err, k.unmount(ctx)); err != nil {
		err = errors.Join(err, k.ns.end()) // so that the device comes free
	}
	return found, err
}

func (k *Baking) mount(ctx context.Context, r root, options string) error {
	_, err := k.ns.run(ctx, "", "mount", "-n", "-i", "-t", r.kind, "-o", options, r.loop.Device(), k.top)
	if err != nil {
		return fmt.Errorf("mount the %s filesystem: %w; a newer kernel on this host may know the filesystem's features", r.kind, err)
	}
	return nil
}

// busyPatience is how long a filesystem may be busy when it is to be
// unmounted. A process that is being started elsewhere in this program has a
// copy of every open file, the mounted root among them, until it becomes the
// other program.
const busyPatience = 10 * time.Second

func (k *Baking) unmount(ctx context.Context) error {
	deadline := time.After(busyPatience)
	for {
		_, err := k.ns.run(ctx, "", "umount", "-n", "-R", k.top)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("unmount the filesystem: %w", err)
		if !strings.Contains(err.Error(), "busy") {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// open opens the mounted root, as the namespace sees it.
func (k *Baking) open() (*os.File, error) {
	top, err := os.Open(fmt.Sprintf("/proc/%d/root%s", k.ns.first.Process.Pid, k.top))
	if err != nil {
		return nil, fmt.Errorf("open the mounted filesystem: %w", err)
	}
	return top, nil
}

// existsIn says whether a path exists under a directory, taking that directory
// for the root of every symbolic link.
func existsIn(top *os.File, path string) bool {
	fd, err := unix.Openat2(int(top.Fd()), path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	return err == nil && unix.Close(fd) == nil
}

// inRoot runs a program of the image in its bare root: nothing is mounted
// there but the filesystem, and what a machine has mounted over it.
func (k *Baking) inRoot(ctx context.Context, stdin string, argv ...string) (string, error) {
	return k.ns.run(ctx, stdin, append([]string{"env", "-i", environment[0], "chroot", k.top}, argv...)...)
}
