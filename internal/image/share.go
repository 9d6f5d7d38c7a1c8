package image

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Sharer changes who may use an image and until when; satisfied by *ec2.Client.
type Sharer interface {
	ModifyImageAttribute(context.Context, *ec2.ModifyImageAttributeInput, ...func(*ec2.Options)) (*ec2.ModifyImageAttributeOutput, error)
	ModifySnapshotAttribute(context.Context, *ec2.ModifySnapshotAttributeInput, ...func(*ec2.Options)) (*ec2.ModifySnapshotAttributeOutput, error)
	EnableImageDeprecation(context.Context, *ec2.EnableImageDeprecationInput, ...func(*ec2.Options)) (*ec2.EnableImageDeprecationOutput, error)
}

// Share lets others launch instances of an image: accounts by id,
// organizations and organizational units by ARN.
func Share(ctx context.Context, api Sharer, id string, users, organizations, units []string) error {
	var add []types.LaunchPermission
	for _, user := range users {
		add = append(add, types.LaunchPermission{UserId: new(user)})
	}
	for _, arn := range organizations {
		add = append(add, types.LaunchPermission{OrganizationArn: new(arn)})
	}
	for _, arn := range units {
		add = append(add, types.LaunchPermission{OrganizationalUnitArn: new(arn)})
	}
	if len(add) == 0 {
		return nil
	}
	_, err := api.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId:          &id,
		LaunchPermission: &types.LaunchPermissionModifications{Add: add},
	})
	if err != nil {
		return fmt.Errorf("share AMI %s with %q (ec2:ModifyImageAttribute): %w", id, append(append(users, organizations...), units...), err)
	}
	return nil
}

// ShareSnapshot lets other accounts make volumes, and copies, of a snapshot.
func ShareSnapshot(ctx context.Context, api Sharer, id string, users []string) error {
	if len(users) == 0 {
		return nil
	}
	var add []types.CreateVolumePermission
	for _, user := range users {
		add = append(add, types.CreateVolumePermission{UserId: new(user)})
	}
	_, err := api.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{
		SnapshotId:             &id,
		Attribute:              types.SnapshotAttributeNameCreateVolumePermission,
		CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: add},
	})
	if err != nil {
		return fmt.Errorf("share snapshot %s with %q (ec2:ModifySnapshotAttribute): %w", id, users, err)
	}
	return nil
}

// Deprecate has an image hidden from others' searches from a time on.
func Deprecate(ctx context.Context, api Sharer, id string, at time.Time) error {
	_, err := api.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: &id, DeprecateAt: aws.Time(at)})
	if err != nil {
		return fmt.Errorf("deprecate AMI %s at %s (ec2:EnableImageDeprecation): %w", id, at.Format(time.RFC3339), err)
	}
	return nil
}

// RequireIMDSv2 has an image's instances refuse metadata requests without a
// session token.
func RequireIMDSv2(ctx context.Context, api Sharer, id string) error {
	_, err := api.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId:     &id,
		ImdsSupport: &types.AttributeValue{Value: aws.String(string(types.ImdsSupportValuesV20))},
	})
	if err != nil {
		return fmt.Errorf("have instances of AMI %s require IMDSv2 (ec2:ModifyImageAttribute): %w", id, err)
	}
	return nil
}
