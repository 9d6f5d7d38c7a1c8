package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// The amazon plugin names those it shares with twice: in the newer form, and in
// the older one's list without its operation.
func TestPeopleWithoutAnOperationAreNoSecondChange(t *testing.T) {
	w := newWorld(t)
	image, snapshot := w.image("shared"), w.snapshot(1)
	someone := "111111111111"

	_, err := w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{
		ImageId: &image, UserIds: []string{someone},
		LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: &someone}}},
	})
	if err != nil {
		t.Error(err)
	}
	_, err = w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &image, UserIds: []string{someone}})
	refused(t, err, "InvalidParameterValue")

	_, err = w.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{
		SnapshotId: &snapshot, UserIds: []string{someone},
		CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{{UserId: &someone}}},
	})
	if err != nil {
		t.Error(err)
	}
	_, err = w.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &snapshot, UserIds: []string{someone}})
	refused(t, err, "InvalidParameterValue")

	permissions, err := w.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &image, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil || len(permissions.LaunchPermissions) != 1 || aws.ToString(permissions.LaunchPermissions[0].UserId) != someone {
		t.Errorf("the image may be launched by %v (%v), want by %s", permissions.LaunchPermissions, err, someone)
	}
}
