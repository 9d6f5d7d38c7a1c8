package bake

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// growExt4 makes an ext4 fill its partition. Unmounted, that needs no rights
// beyond those for the device; resize2fs insists on a check before.
func (k *Baking) growExt4(ctx context.Context) error {
	device := k.root.loop.Device()
	_, err := output(ctx, "", "e2fsck", "-f", "-p", device)
	const corrected = 1
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == corrected {
		err = nil
	}
	if err == nil {
		_, err = output(ctx, "", "resize2fs", device)
	}
	return k.growError(err)
}

// growMounted makes a filesystem that can only be grown while it is mounted
// fill its partition.
func (k *Baking) growMounted(ctx context.Context) (err error) {
	switch k.root.kind {
	case "xfs":
		_, err = k.ns.run(ctx, "", "xfs_growfs", k.top)
	case "btrfs":
		_, err = k.ns.run(ctx, "", "btrfs", "filesystem", "resize", "max", k.top)
	}
	return k.growError(err)
}

func (k *Baking) growError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("grow the %s filesystem of %s to the new size of the disk: %w", k.root.kind, k.bake.Disk, err)
}
