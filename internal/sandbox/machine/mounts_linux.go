package machine

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What an instance's thread has under its own /run.
const (
	rootDir     = "/run/instance"     // the root volume is mounted here
	networkFile = "/run/network"      // the instance's network namespace
	emptyMode   = "mode=0755,size=4m" // of the tmpfs on /run
)

// ownMounts gives the calling thread a mount namespace of its own, prepared for systemd-nspawn:
//   - /run is empty, so that the container manager leaves nothing in the /run of the machine underneath,
//     and sees nothing of other sandboxes there;
//   - /sys/fs/cgroup is the cgroup2 hierarchy, so that it behaves in the same way everywhere, also where
//     systemd is not PID 1.
//
// What the machine underneath unmounts later is unmounted here too, not held.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := mount("none", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, emptyMode); err != nil {
		return err
	}
	return mount("cgroup2", cgroups, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// mountRoot mounts the root volume of a disk at rootDir and returns the loop device's path. An XFS
// filesystem is mounted without regard to its UUID, which all instances of one image share.
func mountRoot(disk *os.File) (device string, err error) {
	part, err := rootVolume(disk)
	if err != nil {
		return "", fmt.Errorf("find the root volume of %s: %w", disk.Name(), err)
	}
	loop, err := openLoop(disk, part)
	if err != nil {
		return "", err
	}
	defer func() { _ = loop.Close() }() // the mount holds it now
	if err := os.Mkdir(rootDir, 0o700); err != nil {
		return "", err
	}
	options := ""
	if part.filesystem == "xfs" {
		options = "nouuid"
	}
	if err := mount(loop.Name(), rootDir, part.filesystem, 0, options); err != nil {
		return "", fmt.Errorf("root volume of %s: %w", disk.Name(), err)
	}
	return loop.Name(), nil
}

// bindNetwork gives a network namespace a path.
func bindNetwork(namespace *os.File) error {
	if err := os.WriteFile(networkFile, nil, 0o600); err != nil {
		return err
	}
	return mount(filepath.Join("/proc/self/fd", fmt.Sprint(namespace.Fd())), networkFile, "", unix.MS_BIND, "")
}

func mount(source, target, filesystem string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, filesystem, flags, options); err != nil {
		return &os.PathError{Op: "mount " + source + " at", Path: target, Err: err}
	}
	return nil
}
