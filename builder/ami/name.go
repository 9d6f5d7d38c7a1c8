package ami

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// Ui is told what happens; packersdk.Ui is one.
type Ui interface {
	Say(line string)
	Error(line string)
}

// Name is the name of the AMI on its way from whoever has it. It is looked at
// before anything is created, and freed when the AMI is about to be registered:
// two AMIs can't have one name.
type Name struct {
	Options *Options
	EC2     *ec2.Client
	Run     cloud.Run
	Ui      Ui

	taken      bool         // there was an AMI of the name before the bake
	unfinished string       // the AMI of another build that had the name before the bake
	replaced   *types.Image // the AMI that had the name
}

// Check says whether the AMI can have its name.
func (n *Name) Check(ctx context.Context) error {
	taken, found, err := image.Named(ctx, n.EC2, n.Options.AmiName)
	n.taken = found
	if err != nil || !found {
		return err
	}
	if !image.Unfinished(taken, n.Run) {
		return n.replaceable(ctx, taken)
	}
	n.unfinished = aws.ToString(taken.ImageId)
	n.Ui.Say(fmt.Sprintf("The name %s is that of %s, which another build has not finished: if it still has not after this bake, it is removed",
		n.Options.AmiName, n.unfinished))
	return nil
}

// FreeIfTaken frees the name if it was taken before the bake. If it has been
// taken since, RegisterImage says so.
func (n *Name) FreeIfTaken(ctx context.Context) error {
	if !n.taken {
		return nil
	}
	return n.Free(ctx)
}

// Free frees the name, if that is wanted or if it is that of an AMI which a
// killed build left. Otherwise it looks once more whether the name is free.
func (n *Name) Free(ctx context.Context) error {
	old, found, err := image.Named(ctx, n.EC2, n.Options.AmiName)
	if err != nil || !found {
		return err
	}
	if n.leftBehind(old) {
		n.Ui.Say("Removing " + n.unfinished + ", which a killed build has left with the name " + n.Options.AmiName + "...")
		return image.Delete(ctx, n.EC2, n.unfinished)
	}
	if err := n.replaceable(ctx, old); err != nil {
		return err
	}
	n.Ui.Say("Deregistering " + aws.ToString(old.ImageId) + ", which has the name " + n.Options.AmiName + "...")
	n.replaced = &old
	return image.Deregister(ctx, n.EC2, aws.ToString(old.ImageId), nil)
}

// leftBehind says whether the AMI that has the name was there before the bake,
// and is as unfinished now as it was then: its build has been killed.
func (n *Name) leftBehind(taken types.Image) bool {
	return n.unfinished != "" && n.unfinished == aws.ToString(taken.ImageId) && image.Unfinished(taken, n.Run)
}

// replaceable says whether the AMI that has the name may lose it: only if that
// is wanted, and if no instance runs on it, because whatever replaces instances
// could start none any more.
func (n *Name) replaceable(ctx context.Context, taken types.Image) error {
	if !n.Options.ForceDeregister {
		return image.TakenError(n.Options.AmiName, taken)
	}
	if err := image.Unused(ctx, n.EC2, aws.ToString(taken.ImageId)); err != nil {
		return fmt.Errorf("force_deregister does not remove the AMI that has the ami_name %q: %w; choose another name, best one with a version in it",
			n.Options.AmiName, err)
	}
	return nil
}

// DeleteReplaced deletes the snapshots of the AMI that had the name, if that is
// wanted, once the new AMI is available. If it can't, that is no reason to undo
// the new one as well.
func (n *Name) DeleteReplaced(ctx context.Context) {
	if n.replaced == nil || !n.Options.ForceDeleteSnapshot {
		return
	}
	n.Ui.Say("Deleting the snapshots of " + aws.ToString(n.replaced.ImageId) + "...")
	if err := image.DeleteSnapshots(ctx, n.EC2, *n.replaced); err != nil {
		n.Ui.Error(fmt.Sprintf("%s; delete it by hand", err))
	}
}

// Open lets others at the AMI and its snapshots, and sets when it is deprecated.
func (o *Options) Open(ctx context.Context, api *ec2.Client, ami string, snapshots ...string) error {
	if err := image.Share(ctx, api, ami, o.AmiUsers, o.AmiOrgArns, o.AmiOuArns); err != nil {
		return err
	}
	for _, snapshot := range snapshots {
		if err := image.ShareSnapshot(ctx, api, snapshot, o.SnapshotUsers); err != nil {
			return err
		}
	}
	if o.deprecateAt.IsZero() {
		return nil
	}
	return image.Deprecate(ctx, api, ami, o.deprecateAt)
}
