package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Deleter takes images out of use; satisfied by *ec2.Client.
type Deleter interface {
	Describer
	DeregisterImage(context.Context, *ec2.DeregisterImageInput, ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error)
	DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error)
}

// Delete deregisters an image and deletes its snapshots. What is gone already
// is no error.
func Delete(ctx context.Context, api Deleter, id string) error {
	image, err := Describe(ctx, api, id)
	if missing := (*NotFoundError)(nil); errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := Deregister(ctx, api, id, nil); err != nil {
		return err
	}
	return DeleteSnapshots(ctx, api, image)
}

// Deregister takes an image's name and id out of use. Its snapshots stay. Born is
// not nil where the image was just created: that it is not found may then mean
// that it is not yet, and otherwise means that it is gone already.
func Deregister(ctx context.Context, api Deleter, id string, born *cloud.Newborn) error {
	until := cloud.Until{What: "AMI " + id + " is deregistered (ec2:DeregisterImage)"}
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		_, err := api.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &id})
		if code := cloud.Code(err); code == "InvalidAMIID.NotFound" || code == "InvalidAMIID.Unavailable" {
			return !born.MayAppear(), "not visible yet", nil
		}
		return err == nil, "", err
	})
}

// lingering is how long a snapshot may seem to be in use by an image that was
// just deregistered.
const lingering = 15 * time.Second

// DeleteSnapshots deletes the snapshots that were made for an image that was
// deregistered. One that another image uses too is left to it.
func DeleteSnapshots(ctx context.Context, api Deleter, image types.Image) error {
	var errs []error
	for _, id := range ownSnapshots(image) {
		began := time.Now()
		err := cloud.Wait(ctx, cloud.Until{What: "snapshot " + id + " is deleted"}, func(ctx context.Context) (bool, string, error) {
			_, err := api.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
			switch cloud.Code(err) {
			case "InvalidSnapshot.NotFound":
				return true, "", nil
			case "InvalidSnapshot.InUse":
				return time.Since(began) >= lingering, "in use", nil
			}
			return err == nil, "", err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("delete snapshot %s of AMI %s (ec2:DeleteSnapshot): %w", id, aws.ToString(image.ImageId), err))
		}
	}
	return errors.Join(errs...)
}
