// Command bench measures, on this machine, what a build with immutable-direct
// costs, and sets it beside the bare limit in the same run. It prints one line
// a figure: name, value, unit; each is the median of the builds, or of the turns
// in which something else was measured.
//
// It is called by `make bench`, which builds what it needs.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

func main() { os.Exit(run()) }

func run() int {
	builds := flag.Int("builds", 5, "how many builds to take the median of")
	instances := flag.Int("instances", 3, "how many builds on an instance, of each builder, to take the median of")
	only := flag.Bool("only-instances", false, "measure nothing but the builds on an instance")
	bare := flag.Bool("bare", false, "serve the bare handler that the sandbox is compared with, until the input ends")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := do(ctx, *bare, *only, *builds, *instances); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func do(ctx context.Context, bare, only bool, builds, instances int) error {
	if bare {
		return serveBare(ctx)
	}
	return bench(ctx, only, builds, instances)
}

// figure is one measured quantity; samples come one a build, or one a turn.
type figure struct {
	name, unit string
	samples    []float64
}

// figures keeps the order in which the names were first seen.
type figures []*figure

func (f *figures) add(name, unit string, value float64) {
	i := slices.IndexFunc(*f, func(g *figure) bool { return g.name == name })
	if i < 0 {
		i = len(*f)
		*f = append(*f, &figure{name: name, unit: unit})
	}
	(*f)[i].samples = append((*f)[i].samples, value)
}

func (f figures) print() {
	for _, g := range f {
		fmt.Printf("%s %.4g %s\n", g.name, median(g.samples), g.unit)
	}
}

func median[T cmp.Ordered](samples []T) T {
	slices.Sort(samples)
	return samples[len(samples)/2]
}

func bench(ctx context.Context, only bool, builds, instances int) (err error) {
	baseDisk, err := basedisk.Build(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "immutable-bench-")
	if err != nil {
		return err
	}
	plugin, err := filepath.Abs("packer-plugin-immutable")
	if err != nil {
		return err
	}
	stage, err := rehearsal.NewStage(dir, plugin, os.Getenv("PACKER"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	if err := stage.InstallPlugin(ctx); err != nil {
		return err
	}
	if output, err := exec.CommandContext(ctx, "example/hello/build", "1.0.0").CombinedOutput(); err != nil {
		return fmt.Errorf("build hello: %w\n%s", err, output)
	}
	var all figures
	if !only {
		err := errors.Join(directFigures(ctx, baseDisk, stage, builds, &all), blockFigures(ctx, dir, stage, &all), crowdedFigures(ctx, dir, stage, &all))
		if err != nil {
			return err
		}
	}
	if err := instanceFigures(ctx, dir, baseDisk, stage, instances, &all); err != nil {
		return err
	}
	all.print()
	return nil
}

// directFigures measures immutable-direct on the stage.
func directFigures(ctx context.Context, baseDisk string, stage *rehearsal.Stage, builds int, all *figures) (err error) {
	box, err := stage.Start(ctx, "--base-disk", baseDisk, "--profile", "instant", "--call-log", callLog(stage))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Stop()) }()

	for i := range builds + 1 {
		build, err := measure(ctx, stage, box, i)
		if err != nil {
			return err
		}
		if i == 0 {
			// The first build fetches the base, which later ones have.
			all.add("first_build", "s", build.seconds)
			continue
		}
		build.report(all)
		bare, err := bareUpload(ctx, box, build)
		if err != nil {
			return err
		}
		all.add("bare_upload", "MB/s", bare)
		all.add("upload_to_bare", "ratio", build.uploadRate()/bare)
		if err := os.Remove(build.disk); err != nil {
			return err
		}
	}
	return nil
}

// crowdedFigures measures a large group on a stage of its own.
func crowdedFigures(ctx context.Context, dir string, stage *rehearsal.Stage, all *figures) error {
	apart, err := rehearsal.NewStage(filepath.Join(dir, "crowd"), stage.Plugin, stage.PackerBinary)
	if err != nil {
		return err
	}
	took, memory, err := crowded(ctx, apart)
	if err != nil {
		return err
	}
	all.add("refresh_10000", "s", took.Seconds())
	all.add("refresh_10000_memory", "MiB", memory)
	return nil
}

func callLog(stage *rehearsal.Stage) string { return filepath.Join(stage.Dir, "calls.jsonl") }
