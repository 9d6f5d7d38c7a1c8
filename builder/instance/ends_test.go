package instance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

func TestInterruptLeavesNothing(t *testing.T) {
	for _, test := range []struct{ method, after string }{
		{methodSnapshot, "DescribeSubnets"},
		{methodSnapshot, "CreateSecurityGroup"},
		{methodSnapshot, "CreateLaunchTemplate"},
		{methodSnapshot, "CreateFleet"},
		{methodSnapshot, "StopInstances"},
		{methodSnapshot, "CreateSnapshots"},
		{methodSnapshot, "RegisterImage"},
		{methodImage, "CreateImage"},
	} {
		t.Run(test.after, func(t *testing.T) {
			l := openLocal(t)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			l.watch(func(operation string) {
				if operation == test.after {
					interrupt()
				}
			})
			if _, err := l.build(ctx, map[string]any{"image_method": test.method}, nil); err == nil {
				t.Error("the build succeeded")
			}
			l.assertLeft()
		})
	}
}

func TestInstanceThatDiesEndsTheBuildWithAWSsReason(t *testing.T) {
	l := openLocal(t)
	_, err := l.build(t.Context(), nil, func(ctx context.Context, data map[string]any) error {
		id, ok := data["InstanceID"].(string)
		if !ok {
			t.Errorf("the provisioners are told of %v", data)
		}
		_, err := l.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		return err
	})
	says(t, err, "stop instance i-", "ended meanwhile: AWS says: ", "Client.UserInitiatedShutdown: User initiated shutdown")
	l.assertLeft()
}

func TestFailingProvisionerLeavesNothing(t *testing.T) {
	l := openLocal(t)
	if _, err := l.build(t.Context(), nil, enough); !errors.Is(err, errEnough) {
		t.Errorf("the build ended with %v", err)
	}
	l.assertLeft()
}

func TestOnErrorAbortKeepsWhatIsThere(t *testing.T) {
	l := openLocal(t)
	if _, err := l.build(t.Context(), map[string]any{"packer_on_error": "abort"}, enough); !errors.Is(err, errEnough) {
		t.Errorf("the build ended with %v", err)
	}
	if state := l.instances()[0].State.Name; state != types.InstanceStateNameRunning {
		t.Errorf("the instance is %s", state)
	}
}

func TestNameThatIsTakenIsSeenBeforeAnythingIsMade(t *testing.T) {
	l := openLocal(t)
	base := l.base()
	if _, err := l.ec2.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("made"), SourceImageId: &base, SourceRegion: aws.String("eu-west-1")}); err != nil {
		t.Fatal(err)
	}
	_, err := l.build(t.Context(), nil, nil)
	says(t, err, `ami_name "made" is taken by ami-`, "choose another name, or set force_deregister = true")
	if n := l.called("CreateFleet") + l.called("CreateSecurityGroup") + l.called("ImportKeyPair"); n > 0 {
		t.Errorf("%d things were made", n)
	}
}

func TestForceDeregisterTakesTheNameAndTheSnapshots(t *testing.T) {
	l := openLocal(t)
	old := l.made(nil)
	made := l.made(map[string]any{"force_deregister": true, "force_delete_snapshot": true})
	if *made.ImageId == *old.ImageId || *made.Name != "made" {
		t.Errorf("made %s, %s", *made.ImageId, *made.Name)
	}
	l.assertLeft(append(image.Snapshots(made), *made.ImageId)...)
}

func TestAttributesOfTheAMI(t *testing.T) {
	l := openLocal(t)
	at := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Minute)
	made := l.made(map[string]any{
		"ami_description": "of {{ .SourceAMIName }}", "ami_users": []string{"210987654321"}, "snapshot_users": []string{"210987654321"},
		"deprecate_at": at.Format(time.RFC3339), "tags": map[string]string{"Base": "{{ .SourceAMI }}"}, "snapshot_tags": map[string]string{"Kind": "root"},
		"volume_size": 10, "encrypt_boot": true, "kms_key_id": "alias/hello",
	})
	base := l.image(l.base())
	root := made.BlockDeviceMappings[0].Ebs
	if *root.VolumeSize != 10 || !*root.Encrypted || *made.Description != "of "+*base.Name || image.Tags(made)["Base"] != *base.ImageId || *made.DeprecationTime != at.Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("made %+v, root %+v", made, root)
	}
	if made.BootMode != base.BootMode || *made.EnaSupport != *base.EnaSupport || aws.ToString(made.SriovNetSupport) != aws.ToString(base.SriovNetSupport) || made.TpmSupport != base.TpmSupport || made.ImdsSupport != types.ImdsSupportValuesV20 {
		t.Errorf("made %+v of %+v", made, base)
	}
	permissions, err := l.ec2.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: made.ImageId, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil || len(permissions.LaunchPermissions) != 1 || *permissions.LaunchPermissions[0].UserId != "210987654321" {
		t.Errorf("it may be launched by %+v: %v", permissions, err)
	}
	volumes, err := l.ec2.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{SnapshotId: root.SnapshotId, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	if err != nil || len(volumes.CreateVolumePermissions) != 1 {
		t.Errorf("volumes may be made by %+v: %v", volumes, err)
	}
}

// base is the ID of the public base.
func (l *local) base() string {
	l.t.Helper()
	out, err := l.ec2.DescribeImages(l.t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"amazon"}, Filters: []types.Filter{{Name: aws.String("architecture"), Values: []string{"x86_64"}}},
	})
	if err != nil || len(out.Images) == 0 {
		l.t.Fatalf("there is no base: %v", err)
	}
	return *out.Images[0].ImageId
}
