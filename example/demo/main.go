// Command demo rehearses the main job on this machine. A sandbox runs an Auto
// Scaling group of three instances of version 1 of the hello example behind a
// load balancer; while requests are sent through it, one plain `packer build`
// bakes version 2, tags the AMI and rolls the group onto it.
//
// It is called by `make demo`, which builds what it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

const (
	template          = "example/hello/hello.pkr.hcl"
	groupName         = "hello"
	groupSize         = 3
	before, after     = "1.0.0", "2.0.0"
	requestsPerSecond = 50

	// timeScale makes an instance's warm-up of 10 s, a health check's
	// interval of 5 s and a deregistration delay of 10 s last a fifth of it.
	timeScale = "0.2"
)

func main() { os.Exit(run()) }

func run() int {
	keep := flag.Bool("keep", false, "leave the sandbox running at the end")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

func demo(ctx context.Context, keep bool) (err error) {
	baseDisk, err := basedisk.Build(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "immutable-demo-")
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
	defer func() {
		if !keep || err != nil {
			err = errors.Join(err, stage.Close())
		}
	}()

	start := time.Now()
	say("Installing the plugin, and starting a sandbox with a clean Amazon Linux base")
	if err := stage.InstallPlugin(ctx); err != nil {
		return err
	}
	// A sandbox that is kept must not end with this command.
	box, err := stage.Start(context.WithoutCancel(ctx), "--base-disk", baseDisk, "--time-scale", timeScale)
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if kept {
			return
		}
		err = errors.Join(err, box.Stop())
		if err == nil {
			err = nothingIsLeft(ctx, stage)
		}
	}()

	for _, version := range []string{before, after} {
		if err := buildRPM(ctx, version); err != nil {
			return err
		}
	}
	say("Baking hello %s, and starting a group of %d instances with it behind a load balancer", before, groupSize)
	group, firstAMI, err := startGroup(ctx, stage, box)
	if err != nil {
		return err
	}
	setUp := time.Since(start)

	say("packer build -var version=%s %s, during %d requests a second to %s", after, template, requestsPerSecond, group.URL)
	versionBefore, err := rehearsal.Version(ctx, group.URL)
	if err != nil {
		return err
	}
	load := rehearsal.StartLoad(ctx, group.URL, requestsPerSecond)
	output, err := stage.Packer(ctx, rehearsal.Packer{
		Env:  box.Environ("AKIADEMO"),
		Args: []string{"build", "-var", "version=" + after, template},
		Echo: os.Stdout,
	})
	requests := load.Stop()
	if err != nil {
		return err
	}
	versionAfter, err := rehearsal.Version(ctx, group.URL)
	if err != nil {
		return err
	}

	story := story{
		setUp: setUp, output: output, requests: requests,
		versionBefore: versionBefore, versionAfter: versionAfter, firstAMI: firstAMI,
	}
	if err := story.tell(ctx, box); err != nil {
		return err
	}
	if err := story.judge(ctx, box); err != nil {
		return err
	}
	if keep {
		kept = true
		howToTalk(box, stage, group)
	}
	return nil
}

func buildRPM(ctx context.Context, version string) error {
	output, err := exec.CommandContext(ctx, "example/hello/build", version).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build hello %s: %w\n%s", version, err, output)
	}
	return nil
}

func say(format string, values ...any) {
	fmt.Printf("\n--- "+format+"\n\n", values...)
}

// nothingIsLeft fails with what the rehearsal left on this machine.
func nothingIsLeft(ctx context.Context, stage *rehearsal.Stage) error {
	left, err := stage.Leftovers(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
	fmt.Println("Left behind: no process, mount, loop device, network namespace or temporary file.")
	return nil
}

func howToTalk(box *rehearsal.Sandbox, stage *rehearsal.Stage, group rehearsal.Group) {
	fmt.Printf("\nThe sandbox is still running (process %d, state in %s):\n\n", box.PID(), stage.Dir)
	for _, variable := range box.Environ("AKIADEMO") {
		fmt.Println("  export", variable)
	}
	fmt.Printf(`
  curl %s
  aws autoscaling describe-instance-refreshes --auto-scaling-group-name %s
  aws ec2 describe-images --owners self

End it with:

  kill %d; while kill -0 %d 2>/dev/null; do sleep 0.2; done; rm -r %s
`, group.URL, group.Name, box.PID(), box.PID(), stage.Dir)
}

// startGroup bakes the first version with the same template, but without the
// rollout, for which there is no group yet, and starts a group with it.
func startGroup(ctx context.Context, stage *rehearsal.Stage, box *rehearsal.Sandbox) (rehearsal.Group, string, error) {
	output, err := stage.Packer(ctx, rehearsal.Packer{
		Env:  box.Environ("AKIADEMO"),
		Args: []string{"build", "-except=immutable-rollout", "-var", "version=" + before, template},
	})
	if err != nil {
		return rehearsal.Group{}, "", fmt.Errorf("bake hello %s: %w\n%s", before, err, output)
	}
	ami, err := output.AMI()
	if err != nil {
		return rehearsal.Group{}, "", err
	}
	group, err := box.NewGroup(ctx, rehearsal.GroupSpec{
		Name: groupName, ImageID: ami, Size: groupSize, Port: 8080, Warmup: 10 * time.Second,
	})
	if err != nil {
		return group, ami, err
	}
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return group, ami, box.WaitHealthy(patience, group, groupSize)
}
