// Package rehearsal runs the whole of the main job on this machine: the
// plugin's own sandbox command, the real packer binary, a group behind a load
// balancer, requests through it, and a look at what is left behind.
//
// The demo, the acceptance tests and the benchmarks are written with it. It
// speaks to the sandbox as every user does: over HTTP, with the AWS SDK.
package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Region is where rehearsals take place.
const Region = "eu-west-1"

// Stage is a directory of this machine in which a rehearsal plays: everything
// that the plugin, packer and the sandbox write goes below it, so that what is
// left at the end can be counted.
type Stage struct {
	// Dir holds everything that the rehearsal writes.
	Dir string

	// Plugin is the plugin's binary.
	Plugin string

	// PackerBinary is the packer executable.
	PackerBinary string

	// Cache is PACKER_CACHE_DIR, by default below Dir. Give one that outlives
	// the rehearsal to use a downloaded base again.
	Cache string

	marker string
}

// NewStage makes the stage's directories below dir.
func NewStage(dir, plugin, packer string) (*Stage, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Stage{
		Dir:          dir,
		Plugin:       plugin,
		PackerBinary: packer,
		Cache:        filepath.Join(dir, "cache"),
		marker:       "IMMUTABLE_STAGE=" + dir,
	}
	for _, sub := range []string{"tmp", "home", "plugins"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make the stage: %w", err)
		}
	}
	return s, nil
}

// Close removes the stage's directory.
func (s *Stage) Close() error { return os.RemoveAll(s.Dir) }

// environ is the environment of every process of the rehearsal: none of the
// caller's AWS or Packer settings, a HOME and a temporary directory on stage,
// and the marker by which Leftovers knows a process as one of ours.
func (s *Stage) environ(extra ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "PACKER_") ||
			strings.HasPrefix(name, "PKR_") || name == "HOME" || name == "TMPDIR"
	})
	env = append(env, s.marker,
		"HOME="+filepath.Join(s.Dir, "home"),
		"TMPDIR="+filepath.Join(s.Dir, "tmp"),
	)
	return append(env, extra...)
}

// Leftovers names what processes of the rehearsal have left on this machine:
// processes, mounts (in any mount namespace), loop devices, named network
// namespaces and temporary files. It is empty after a rehearsal that cleaned
// up behind itself.
func (s *Stage) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	var errs []error
	for _, look := range []func() ([]string, error){
		s.processes, s.mounts, s.loopDevices, s.networkNamespaces, s.temporaryFiles,
	} {
		found, err := look()
		left = append(left, found...)
		errs = append(errs, err)
	}
	errs = append(errs, ctx.Err())
	return left, errors.Join(errs...)
}
