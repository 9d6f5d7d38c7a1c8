package bake

import (
	"context"
	"errors"
)

// Baking is a bake that has been started. It must be closed.
type Baking struct{ machine Machine }

// Start mounts the disk and starts the machine on it. When it fails, or ctx
// ends, nothing is left of it.
func (b Bake) Start(ctx context.Context) (*Baking, error) {
	return nil, errors.New("not yet written")
}

// Machine is the running machine.
func (k *Baking) Machine() Machine { return k.machine }

// Finish stops the machine, trims and unmounts the filesystem and checks that
// it is clean: from then on the disk can be read.
func (k *Baking) Finish(ctx context.Context) error { return nil }

// Close ends whatever still runs and is mounted. After Finish it does nothing.
func (k *Baking) Close() error { return nil }

// Check reports what this host lacks for baking in such a machine: root
// rights, programs. Each error names its remedy.
func Check(machine string) []error { return nil }
