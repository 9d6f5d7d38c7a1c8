package bake

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// Finish stops the machine, trims and unmounts the filesystem and checks that
// it is clean: from then on the disk can be read.
func (k *Baking) Finish(ctx context.Context) (err error) {
	if err := k.finish(ctx); err != nil {
		return k.Explain(err)
	}
	return k.Close()
}

func (k *Baking) finish(ctx context.Context) error {
	if k.shutdown != nil {
		if err := k.shutdown(ctx); err != nil {
			return err
		}
	}
	if err := k.stop(ctx, k.ns.first.Process.Pid, nil); err != nil {
		return err
	}
	if err := k.takeBack(ctx); err != nil {
		return err
	}
	if err := k.settle(ctx); err != nil {
		return err
	}
	if err := k.trim(ctx); err != nil {
		return err
	}
	if err := k.ns.end(); err != nil {
		return fmt.Errorf("end the bake's namespace: %w", err)
	}
	return k.check(ctx)
}

// stop ends what provisioners left running in the PID namespace of the process
// first, and says so: a daemon that a scriptlet started would keep the
// filesystem busy.
func (k *Baking) stop(ctx context.Context, first int, spare func(pid int) bool) error {
	names, err := stopInside(ctx, first, spare)
	if err != nil {
		return fmt.Errorf("stop what provisioners left running: %w", err)
	}
	if len(names) > 0 {
		k.say("Stopped what provisioners had left running: %s", strings.Join(names, ", "))
	}
	return nil
}

// settle writes everything out, learns whether that failed, and unmounts.
func (k *Baking) settle(ctx context.Context) error {
	// The file was opened before anything was written, so that no failed
	// write since then is missed.
	if err := unix.Syncfs(int(k.held.Fd())); err != nil {
		return fmt.Errorf("write the filesystem out to %s: %w", k.bake.Disk, err)
	}
	if err := k.letGo(); err != nil {
		return err
	}
	return k.unmount(ctx)
}

// trim gives the blocks of deleted files back, so that what was removed is not
// in the image. Some of them are free only after unmounting.
func (k *Baking) trim(ctx context.Context) error {
	if err := k.mount(ctx, k.root, mountOptions[k.root.kind].write); err != nil {
		return err
	}
	if _, err := k.ns.run(ctx, "", "fstrim", k.top); err != nil {
		return fmt.Errorf("free the blocks of deleted files (fstrim): %w; put PACKER_CACHE_DIR on a filesystem that can punch holes, such as ext4, xfs or tmpfs", err)
	}
	return k.unmount(ctx)
}

// checkers check a filesystem without changing it.
var checkers = map[string]struct {
	tool
	arguments []string
}{
	"xfs":   {tool{"xfs_repair", "xfsprogs"}, []string{"-n"}},
	"ext4":  {tool{"e2fsck", "e2fsprogs"}, []string{"-f", "-n"}},
	"btrfs": {tool{"btrfs", "btrfs-progs"}, []string{"check", "--readonly"}},
}

func checker(kind string) tool { return checkers[kind].tool }

// check fails if the unmounted filesystem is not clean.
func (k *Baking) check(ctx context.Context) error {
	c := checkers[k.root.kind]
	argv := append([]string{c.name}, c.arguments...)
	if _, err := output(ctx, "", append(argv, k.root.loop.Device())...); err != nil {
		return fmt.Errorf("the %s filesystem of %s is not clean after the bake: %w", k.root.kind, k.bake.Disk, err)
	}
	return nil
}

// Explain adds to an error, of a provisioner's too, that the local filesystem
// is full, where it is: for what runs in the machine, that is an I/O error like
// any other.
func (k *Baking) Explain(err error) error {
	const scant = 1 << 20
	if full := (*disk.FullError)(nil); errors.As(err, &full) {
		return err
	}
	if free, freeErr := disk.Free(k.bake.Disk); freeErr == nil && free < scant {
		return errors.Join(err, &disk.FullError{Path: k.bake.Disk, Free: free})
	}
	return err
}

func (k *Baking) say(format string, arguments ...any) {
	k.bake.Ui.Say(fmt.Sprintf(format, arguments...))
}
