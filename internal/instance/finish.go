package instance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

type volumes interface {
	image.Deleter
	CreateSnapshots(context.Context, *ec2.CreateSnapshotsInput, ...func(*ec2.Options)) (*ec2.CreateSnapshotsOutput, error)
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
	CreateImage(context.Context, *ec2.CreateImageInput, ...func(*ec2.Options)) (*ec2.CreateImageOutput, error)
}

// Snapshot is a snapshot that was begun.
type Snapshot struct {
	ID   string
	Size int32 // GiB
	born *cloud.Newborn
}

// Snapshot begins a snapshot of the root volume of a stopped instance, with tags
// of its own beside those of the run. It is of this moment: the instance may go
// while the snapshot is being completed ("Deleting a volume has no effect on the
// snapshots made from it", EBS User Guide, Delete an Amazon EBS snapshot).
func (b Bakery) Snapshot(ctx context.Context, i types.Instance, description string, own map[string]string) (Snapshot, error) {
	ctx, stop := begin(ctx)
	defer stop()
	var others []string
	for _, m := range i.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) != aws.ToString(i.RootDeviceName) && m.Ebs != nil {
			others = append(others, aws.ToString(m.Ebs.VolumeId))
		}
	}
	id := aws.ToString(i.InstanceId)
	out, err := b.EC2.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{
		Description:           &description,
		InstanceSpecification: &types.InstanceSpecification{InstanceId: &id, ExcludeDataVolumeIds: others},
		TagSpecifications:     []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: tags.List(b.Run.Tags(own))}},
	})
	if err == nil && len(out.Snapshots) != 1 {
		err = fmt.Errorf("AWS began %d snapshots, not one", len(out.Snapshots))
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot the root volume of %s (ec2:CreateSnapshots): %w", id, err)
	}
	made := Snapshot{ID: *out.Snapshots[0].SnapshotId, Size: aws.ToInt32(out.Snapshots[0].VolumeSize), born: cloud.Born()}
	b.Ladder.Add("delete snapshot "+made.ID, func(ctx context.Context) error { return b.deleteSnapshot(ctx, made.ID, made.born) })
	return made, nil
}

func (b Bakery) deleteSnapshot(ctx context.Context, id string, born *cloud.Newborn) error {
	return vanishing(ctx, born, "snapshot "+id, func(ctx context.Context) error {
		_, err := b.EC2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		return err
	}, "InvalidSnapshot.NotFound")
}

// Firmware is the instance's UEFI variable store in base64; "" if it has none.
// What was enrolled there while it was baked on is part of the image.
func (b Bakery) Firmware(ctx context.Context, i types.Instance) (string, error) {
	if i.CurrentInstanceBootMode != types.InstanceBootModeValuesUefi {
		return "", nil
	}
	out, err := b.EC2.GetInstanceUefiData(ctx, &ec2.GetInstanceUefiDataInput{InstanceId: i.InstanceId})
	if err != nil {
		return "", fmt.Errorf("read the UEFI variables of %s (ec2:GetInstanceUefiData): %w", aws.ToString(i.InstanceId), err)
	}
	return aws.ToString(out.UefiData), nil
}

// completing is beyond what the snapshot of a large root volume takes.
const completing = 6 * time.Hour

// Completed waits until a snapshot is completed. As soon as AWS tells of
// progress, the next look is for when it will be at its end.
func (b Bakery) Completed(ctx context.Context, s Snapshot) error {
	began, progress := time.Now(), ""
	until := cloud.Until{
		What: "snapshot " + s.ID + " is completed", Least: 3 * time.Second, First: time.Second, Every: 15 * time.Second, Deadline: completing,
		Left: func() time.Duration { return left(progress, time.Since(began)) },
	}
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		out, err := b.EC2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{s.ID}})
		switch {
		case cloud.Code(err) == "InvalidSnapshot.NotFound" && s.born.MayAppear():
			return false, "it can't be found yet", nil
		case err != nil:
			return false, "", fmt.Errorf("ec2:DescribeSnapshots: %w", err)
		case len(out.Snapshots) == 0:
			return false, "", errors.New("it does not exist (any more)")
		}
		s.born.Seen()
		now := out.Snapshots[0]
		progress = aws.ToString(now.Progress)
		if now.State == types.SnapshotStateError {
			return false, "", fmt.Errorf("AWS says: error: %s", aws.ToString(now.StateMessage))
		}
		return now.State == types.SnapshotStateCompleted, fmt.Sprintf("%s, %s", now.State, progress), nil
	})
}

// left is how long it will still take, and a little more, when progress such as
// "45%" was made in the time given; 0 if that can't be told.
func left(progress string, in time.Duration) time.Duration {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(progress, "%"), 64)
	if err != nil || percent <= 0 || percent >= 100 {
		return 0
	}
	return time.Duration(float64(in) * (100 - percent) / percent * 1.05)
}

// Image begins an image of a stopped instance with CreateImage, which carries
// over all of the instance's volumes and attributes. Born is for who waits for it.
func (b Bakery) Image(ctx context.Context, i types.Instance, name, description string, onImage, onSnapshots map[string]string) (id string, born *cloud.Newborn, err error) {
	ctx, stop := begin(ctx)
	defer stop()
	request := &ec2.CreateImageInput{
		InstanceId: i.InstanceId, Name: &name,
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: tags.List(b.Run.Tags(onImage))},
			{ResourceType: types.ResourceTypeSnapshot, Tags: tags.List(b.Run.Tags(onSnapshots))},
		},
	}
	if description != "" {
		request.Description = &description
	}
	out, err := b.EC2.CreateImage(ctx, request)
	if cloud.Code(err) == "InvalidAMIName.Duplicate" {
		id, err = b.findImage(ctx, name, err)
	} else if err == nil {
		id = *out.ImageId
	}
	if err != nil {
		return "", nil, fmt.Errorf("make AMI %q of %s (ec2:CreateImage): %w", name, aws.ToString(i.InstanceId), err)
	}
	born = cloud.Born()
	b.Ladder.Add("remove AMI "+id, func(ctx context.Context) error {
		return errors.Join(image.Deregister(ctx, b.EC2, id, born), b.removeSnapshots(ctx, aws.ToString(i.InstanceId), id))
	})
	return id, born, nil
}

// findImage finds out whether the name is taken by this very image, when the
// answer to its making was lost. It may show late.
func (b Bakery) findImage(ctx context.Context, name string, duplicate error) (id string, err error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cloud.Visibility+cloud.AttemptTimeout)
	defer stop()
	var found types.Image
	until := cloud.Until{What: fmt.Sprintf("the AMI named %q can be seen", name), Deadline: cloud.Visibility}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (is bool, state string, err error) {
		found, is, err = image.Named(ctx, b.EC2, name)
		return is, "there is none", err
	})
	if err != nil {
		return "", errors.Join(duplicate, err)
	}
	if image.Tags(found)[cloud.TagRun] != b.Run.ID {
		return "", image.TakenError(name, found)
	}
	return aws.ToString(found.ImageId), nil
}

// removeSnapshots deletes the snapshots that CreateImage began for an image, which
// knows of them only when it is done. They are found by the description that EC2
// gives them.
func (b Bakery) removeSnapshots(ctx context.Context, instance, ami string) error {
	out, err := b.EC2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"},
		Filters:  []types.Filter{{Name: aws.String("description"), Values: []string{fmt.Sprintf("Created by CreateImage(%s) for %s*", instance, ami)}}},
	})
	if err != nil {
		return fmt.Errorf("look for the snapshots of AMI %s (ec2:DescribeSnapshots): %w", ami, err)
	}
	var errs []error
	for _, s := range out.Snapshots {
		errs = append(errs, b.deleteSnapshot(ctx, aws.ToString(s.SnapshotId), nil))
	}
	return errors.Join(errs...)
}
