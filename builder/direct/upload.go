package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/uuid"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/snapshot"
)

// stepUpload makes a snapshot of the baked disk: of the blocks in which it
// differs from the base.
type stepUpload struct{ *build }

func (s *stepUpload) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.run(ctx); err != nil {
		return base.Fail(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup does nothing: stepAccess's does.
func (s *stepUpload) Cleanup(multistep.StateBag) {}

func (s *stepUpload) run(ctx context.Context) (err error) {
	// A retried step has the snapshot of the attempt that failed.
	if err := s.begun.Back(ctx); err != nil {
		return fmt.Errorf("remove the snapshot of the attempt before: %w", err)
	}
	if s.texts, err = s.config.Render(ami.DataOf(s.work.Wish.AWS.Region, s.work.Base.Source)); err != nil {
		return err
	}
	lineage, err := s.lineage()
	if err != nil {
		return err
	}
	disk, err := os.Open(s.work.Disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()

	if err := s.scan(ctx, disk, lineage); err != nil {
		return err
	}
	u, err := s.upload(ctx, disk, lineage)
	if err != nil {
		return err
	}
	defer s.work.Took.Start("complete")()
	s.ui.Say("Waiting until snapshot " + s.snapshot + " is completed...")
	return u.Wait(ctx, s.ec2)
}

// lineage says what the new snapshot is based on.
type lineage struct {
	// parent's blocks show through where none is written, and index has their
	// digests. Without a parent both are empty.
	parent string
	index  *snapshot.Index
	// encrypted says that the snapshot is.
	encrypted bool
}

// lineage chooses the base's snapshot as the parent. It can't be if there is
// none, or if it is encrypted and the new one is not to be: a child is
// encrypted as its parent is.
func (s *stepUpload) lineage() (lineage, error) {
	none := lineage{index: &snapshot.Index{}, encrypted: s.work.Wish.Encryption.Result(false)}
	if s.work.Base.Image == nil {
		return none, nil
	}
	root, err := image.Root(*s.work.Base.Image)
	if err != nil {
		return lineage{}, err
	}
	encrypted := aws.ToBool(root.Encrypted)
	if encrypted != s.work.Wish.Encryption.Result(encrypted) {
		return none, nil
	}
	return lineage{parent: *root.SnapshotId, index: s.work.Base.Index, encrypted: encrypted}, nil
}

// scan finds the blocks that must be written.
func (s *stepUpload) scan(ctx context.Context, disk *os.File, l lineage) (err error) {
	defer s.work.Took.Start("scan")()
	s.ui.Say("Comparing the disk with the base...")
	if s.onDisk, err = snapshot.Count(disk); err != nil {
		return err
	}
	if l.encrypted && l.parent == "" {
		s.changed, err = snapshot.All(ctx, disk)
	} else {
		s.changed, err = snapshot.Diff(ctx, disk, l.index)
	}
	if err != nil {
		return fmt.Errorf("compare the disk with the base: %w", err)
	}
	return nil
}

func (s *stepUpload) upload(ctx context.Context, disk *os.File, l lineage) (*snapshot.Upload, error) {
	stop := s.work.Took.Start("upload")
	info, err := disk.Stat()
	if err != nil {
		return nil, err
	}
	u, err := snapshot.Start(ctx, s.ebs, snapshot.Plan{
		Size:        info.Size(),
		Parent:      l.parent,
		Encrypted:   l.encrypted,
		Key:         s.config.KmsKeyID,
		Description: s.description(),
		Tags:        s.work.Wish.Run.Tags(s.texts.SnapshotTags),
		Token:       uuid.TimeOrderedUUID(),
	})
	if err != nil {
		return nil, err
	}
	s.snapshot = u.ID
	s.begun.Add("delete snapshot "+u.ID, func(ctx context.Context) error { return u.Delete(ctx, s.ec2) })

	err = u.Write(ctx, s.ui, disk, s.changed)
	s.uploaded = int(u.Written.Load())
	if err != nil {
		return nil, err
	}
	if err := u.Complete(ctx, s.changed); err != nil {
		return nil, err
	}
	stop()
	s.ui.Say(fmt.Sprintf("  uploaded %d of %d changed blocks (%.1f MiB) in %.1f s",
		s.uploaded, len(s.changed), float64(s.uploaded)*blocks.Size/(1<<20), s.work.Took.Of("upload").Seconds()))
	return u, nil
}

// description is the AMI's, or says whose snapshot it is.
func (s *stepUpload) description() string {
	return cmp.Or(s.texts.Description, "Root of AMI "+s.config.AmiName)
}
