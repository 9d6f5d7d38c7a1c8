package base

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/multistep/commonsteps"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/packerbuilderdata"

	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/communicator"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// Work is a bake on a copy of a base, as steps for Packer's runner. Builders
// put their own steps before and behind them.
type Work struct {
	Config Config
	// Wish is read when the first step runs: an earlier one may fill it in.
	Wish Wish
	// Size is what the disk is grown to, in bytes; 0 leaves the base's size.
	Size int64

	// Dir is the work directory, and Base the base, once the first steps have
	// run.
	Dir  *bake.Dir
	Base Disk
	// Disk is the path of the disk that is baked. After the last step it is
	// unmounted and its filesystem clean.
	Disk string
	// Took knows how long each stage took: "base", "copy" and "bake".
	Took Stopwatch

	baking *bake.Baking
	baked  func() // stops the clock of the bake
}

// Steps bring the base, copy it, start the machine, run the provisioners, and
// leave a finished disk.
func (w *Work) Steps() []multistep.Step {
	return []multistep.Step{
		&stepBase{w},
		&stepCopy{w},
		&stepEnter{w},
		// Packer's -on-error knows this step by its type.
		new(commonsteps.StepProvision),
		&stepLeave{w},
	}
}

// Fail halts a build.
func Fail(state multistep.StateBag, err error) multistep.StepAction {
	state.Put("error", err)
	return multistep.ActionHalt
}

// Result is the error that a build ended with, after the runner's last step. An
// error alone says nothing: it stays there when -on-error=ask retries the step
// and that succeeds.
func Result(state multistep.StateBag) error {
	_, cancelled := state.GetOk(multistep.StateCancelled)
	_, halted := state.GetOk(multistep.StateHalted)
	if !cancelled && !halted {
		return nil
	}
	if err, ok := state.Get("error").(error); ok {
		return err
	}
	if cancelled {
		return errors.New("the build was cancelled")
	}
	return errors.New("the build was halted")
}

func ui(state multistep.StateBag) packersdk.Ui { return state.Get("ui").(packersdk.Ui) }

// stepBase opens the work directory and brings the base.
type stepBase struct{ *Work }

func (s *stepBase) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	defer s.Took.Start("base")()
	if err := s.open(); err != nil {
		return Fail(state, err)
	}
	var err error
	if s.Base, err = s.Config.Fetch(ctx, ui(state), s.Wish); err != nil {
		return Fail(state, err)
	}
	generated := packerbuilderdata.GeneratedData{State: state}
	for name, value := range s.Base.Generated(s.Wish.AWS.Region) {
		generated.Put(name, value)
	}
	return multistep.ActionContinue
}

// baseName is the base as the user named it.
func (w *Work) baseName() string {
	if w.Base.Source == nil {
		return "source_image " + shown(w.Config.SourceImage)
	}
	return fmt.Sprintf("base %s (%s)", aws.ToString(w.Base.Source.ImageId), aws.ToString(w.Base.Source.Name))
}

// open makes the work directory; a retried step has it already.
func (s *stepBase) open() error {
	if s.Dir != nil {
		return nil
	}
	cache, err := packersdk.CachePath("immutable", "work")
	if err != nil {
		return fmt.Errorf("find Packer's cache directory: %w; set PACKER_CACHE_DIR to a directory that can be written", err)
	}
	s.Dir, err = bake.OpenDir(cache)
	return err
}

func (s *stepBase) Cleanup(state multistep.StateBag) {
	if s.Dir == nil {
		return
	}
	if err := s.Dir.Close(); err != nil {
		ui(state).Error(err.Error())
	}
}

// stepCopy copies the base: what is baked is the copy.
type stepCopy struct{ *Work }

func (s *stepCopy) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	defer s.Took.Start("copy")()
	if s.Size != 0 && s.Size < s.Base.Size {
		return Fail(state, fmt.Errorf("volume_size is %d GiB, less than the %.4g GiB of %s, which cannot shrink; leave it out or make it larger",
			s.Size>>30, float64(s.Base.Size)/(1<<30), s.baseName()))
	}
	ui(state).Say("Copying the base disk...")
	s.Disk = s.Dir.Path("disk.raw")
	if err := copyDisk(ctx, s.Disk, s.Base.Path); err != nil {
		return Fail(state, err)
	}
	return multistep.ActionContinue
}

func copyDisk(ctx context.Context, to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy the base disk: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	// A retried step finds what the failed one had written.
	dst, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy the base disk: %w", err)
	}
	return errors.Join(disk.Copy(ctx, dst, src), dst.Close())
}

// Cleanup does nothing: the copy goes with the work directory.
func (s *stepCopy) Cleanup(multistep.StateBag) {}

// stepEnter starts the machine.
type stepEnter struct{ *Work }

func (s *stepEnter) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	s.baked = s.Took.Start("bake")
	u := ui(state)
	u.Say(fmt.Sprintf("Mounting the disk and entering it (%s)...", s.Config.Machine))
	baking, err := bake.Bake{Disk: s.Disk, Machine: s.Config.Machine, Dir: s.Dir.Path(), Size: s.Size, Ui: u}.Start(ctx)
	if err != nil {
		return Fail(state, fmt.Errorf("bake on %s: %w", s.baseName(), err))
	}
	s.baking = baking
	state.Put("communicator", communicator.New(baking.Machine()))
	state.Put("instance_id", filepath.Base(s.Dir.Path()))
	generated := packerbuilderdata.GeneratedData{State: state}
	generated.Put("User", "root")
	generated.Put("ConnType", s.Config.Machine)
	return multistep.ActionContinue
}

func (s *stepEnter) Cleanup(state multistep.StateBag) {
	if s.baking == nil {
		return
	}
	if err, ok := state.Get("error").(error); ok {
		state.Put("error", s.baking.Explain(err))
	}
	if err := s.baking.Close(); err != nil {
		ui(state).Error(fmt.Sprintf("leave the disk: %s", err))
	}
}

// stepLeave finishes the disk.
type stepLeave struct{ *Work }

func (s *stepLeave) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	defer s.baked()
	ui(state).Say("Leaving the disk and checking its filesystem...")
	if err := s.baking.Finish(ctx); err != nil {
		return Fail(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup does nothing: stepEnter's does.
func (s *stepLeave) Cleanup(multistep.StateBag) {}
