package bake

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// Baking is a bake that has been started. It must be closed.
type Baking struct {
	bake Bake
	top  string // where the root is mounted, in the namespace

	ns       *namespace
	root     root
	held     *os.File // the mounted root; sees whether a write failed
	resolver resolver
	loans    []loan
	machine  Machine
	shutdown func(context.Context) error // of a container

	begun ladder.Ladder
}

// Start mounts the disk and starts the machine on it. When it fails, or ctx
// ends, nothing is left of it.
func (b Bake) Start(ctx context.Context) (_ *Baking, err error) {
	if errs := Check(b.Machine); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	top, err := filepath.Abs(filepath.Join(b.Dir, "root"))
	if err != nil {
		return nil, fmt.Errorf("bake %s: %w", b.Disk, err)
	}
	k := &Baking{bake: b, top: top}
	defer k.begun.BackOn(ctx, &err)
	if err := k.start(ctx); err != nil {
		return nil, k.Explain(err)
	}
	return k, nil
}

func (k *Baking) start(ctx context.Context) (err error) {
	if err := os.Mkdir(k.top, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a mount point: %w", err)
	}
	if k.ns, err = newNamespace(); err != nil {
		return err
	}
	k.begun.Add("end the bake's namespace", func(context.Context) error { return k.ns.end() })
	if err := k.mountRoot(ctx); err != nil {
		return err
	}
	if err := k.prepareResolver(ctx); err != nil {
		return err
	}
	switch k.bake.Machine {
	case Container:
		err = k.startContainer(ctx)
	default:
		err = k.startChroot(ctx)
	}
	if err != nil {
		return err
	}
	return k.finishResolver(ctx)
}

// mountRoot finds the root partition, grows it if that is asked for, and
// mounts it.
func (k *Baking) mountRoot(ctx context.Context) (err error) {
	image, err := os.OpenFile(k.bake.Disk, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the disk: %w", err)
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	info, err := image.Stat()
	if err != nil {
		return fmt.Errorf("open the disk: %w", err)
	}
	r, err := k.findRoot(ctx, image, info.Size())
	if err != nil {
		return err
	}
	if err := checker(r.kind).find(); err != nil {
		return err
	}
	grown := k.bake.Size > info.Size()
	if grown {
		if r.partition, err = disk.Grow(image, k.bake.Size, r.partition); err != nil {
			return err
		}
	}
	if r.loop, err = disk.Attach(image, r.partition, false); err != nil {
		return err
	}
	k.root = r
	k.begun.Add("let go of the disk", k.unmountRoughly)
	if grown && r.kind == "ext4" {
		if err := k.growExt4(ctx); err != nil {
			return err
		}
	}
	if err := k.mount(ctx, r, mountOptions[r.kind].write); err != nil {
		return fmt.Errorf("%s: %w", image.Name(), err)
	}
	if k.held, err = k.open(); err != nil {
		return err
	}
	if grown {
		return k.growMounted(ctx)
	}
	return nil
}

// unmountRoughly ends the namespace, and the mount with it.
func (k *Baking) unmountRoughly(ctx context.Context) error {
	return errors.Join(k.letGo(), k.ns.end(), k.root.loop.Detach(ctx))
}

// letGo closes the mounted root, which keeps the filesystem busy.
func (k *Baking) letGo() error {
	if k.held == nil {
		return nil
	}
	held := k.held
	k.held = nil
	return held.Close()
}

//go:embed chroot.sh
var chrootScript string

func (k *Baking) startChroot(ctx context.Context) error {
	if _, err := k.ns.run(ctx, "", "/bin/sh", "-c", chrootScript, "chroot", k.top); err != nil {
		return fmt.Errorf("set up the chroot: %w", err)
	}
	k.machine = entrance(slices.Concat(k.ns.enter(), confined, []string{"chroot", k.top}))
	if err := run(ctx, k.machine, "", "/bin/sh", "-c", ":"); err != nil {
		return fmt.Errorf("start a shell in the image: %w; is the image for another architecture than this host?", err)
	}
	return nil
}

// Machine is the running machine.
func (k *Baking) Machine() Machine { return k.machine }

// Close ends whatever still runs and is mounted. After Finish it does nothing.
func (k *Baking) Close() error { return k.begun.Back(context.Background()) }

// run runs a command in a machine, and makes an error of a bad end.
func run(ctx context.Context, m Machine, stdin string, argv ...string) error {
	var complaint strings.Builder
	status, err := m.Run(ctx, Command{Argv: argv, Stdin: strings.NewReader(stdin), Stderr: &complaint})
	if err == nil && status != 0 {
		err = fmt.Errorf("%s (exit status %d)", strings.TrimSpace(complaint.String()), status)
	}
	return err
}
