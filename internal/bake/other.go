//go:build !linux

package bake

import (
	"context"
	"errors"
)

var errLinux = errors.New("baking a disk needs Linux")

// Baking is a bake that has been started; there is none but on Linux.
type Baking struct{}

// Start fails: see Check.
func (b Bake) Start(context.Context) (*Baking, error) { return nil, errLinux }

// Machine is the running machine.
func (k *Baking) Machine() Machine { return nil }

// Finish does nothing.
func (k *Baking) Finish(context.Context) error { return nil }

// Explain does nothing.
func (k *Baking) Explain(err error) error { return err }

// Close does nothing.
func (k *Baking) Close() error { return nil }

// Dir is a private work directory; there is none but on Linux.
type Dir struct{}

// OpenDir fails: see Check.
func OpenDir(string) (*Dir, error) { return nil, errLinux }

// Path is the path of the directory.
func (d *Dir) Path(...string) string { return "" }

// Close does nothing.
func (d *Dir) Close() error { return nil }
