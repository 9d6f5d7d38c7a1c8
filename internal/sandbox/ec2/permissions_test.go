package ec2

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// noted gives a client of the world's service and what its calls note, with the
// names of the region and the account left out.
func (w *world) noted() (*ec2.Client, func() []string) {
	w.Helper()
	notes := &doortest.Notes{}
	server := doortest.ServerOf(w.T, door.Config{Books: w.books, Clock: doortest.Clock(w), Guard: notes, Services: []*api.Service{w.service.API()}})
	return ec2.NewFromConfig(doortest.Config(server)), func() []string {
		short := strings.NewReplacer("arn:aws:ec2:eu-west-1:123456789012:", "", "arn:aws:ec2:eu-west-1::", "", "arn:aws:iam::123456789012:", "", "arn:aws:ssm:eu-west-1:123456789012:", "", "arn:aws:ssm:eu-west-1::", "", "arn:aws:kms:eu-west-1:123456789012:", "")
		taken := notes.Take()
		for i, note := range taken {
			taken[i] = short.Replace(note)
		}
		slices.Sort(taken)
		return taken
	}
}

func TestWhatCallersMustBePermitted(t *testing.T) {
	w := newWorld(t)
	client, noted := w.noted()
	const other = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000001"
	image := w.image("hello")
	plain := w.snapshot(1)
	encrypted := w.snapshot(1, func(s *storage.Snapshot) { s.Encrypted, s.KmsKeyId = true, ownKey })
	byDefault := w.snapshot(1, func(s *storage.Snapshot) {
		w.books.Read(func() { s.Encrypted, s.KmsKeyId = true, w.service.in(doortest.Region).defaultKey() })
	})
	w.parameters["/hello/ami"], w.parameters["/aws/service/hello"] = image, image
	tags := func(kind types.ResourceType) []types.TagSpecification {
		return []types.TagSpecification{{ResourceType: kind, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}}
	}
	template, err := client.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("hello"), TagSpecifications: tags(types.ResourceTypeLaunchTemplate),
		LaunchTemplateData: &types.RequestLaunchTemplateData{
			ImageId: aws.String("resolve:ssm:/hello/ami"), InstanceType: types.InstanceTypeT3Micro,
			IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Arn: aws.String("arn:aws:iam::123456789012:instance-profile/web/hello")},
			TagSpecifications:  []types.LaunchTemplateTagSpecificationRequest{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := noted(), []string{"ec2:CreateLaunchTemplate launch-template/*", "ec2:CreateTags launch-template/*"}; !slices.Equal(got, want) {
		t.Errorf("CreateLaunchTemplate notes %q, want %q", got, want)
	}
	templateID := *template.LaunchTemplate.LaunchTemplateId
	var subnet, group string
	w.books.Read(func() {
		r := w.service.in(doortest.Region)
		group, subnet = fixedID("sg", r.name), ordered(r.Subnets)[0].Id
	})
	using := func(key string, actions ...string) []string {
		for i := range actions {
			actions[i] = "kms:" + actions[i] + " " + strings.TrimPrefix(key, "arn:aws:kms:eu-west-1:123456789012:")
		}
		return actions
	}
	running := []string{"ec2:RunInstances image/" + image, "ec2:RunInstances instance/*", "ec2:RunInstances network-interface/*",
		"ec2:RunInstances security-group/" + group, "ec2:RunInstances subnet/" + subnet, "ec2:RunInstances volume/*"}
	for name, test := range map[string]struct {
		call func() error
		want []string
	}{
		"an operation without resources": {func() error {
			_, err := client.DescribeInstances(t.Context(), nil)
			return err
		}, []string{"ec2:DescribeInstances *"}},
		"an instance": {func() error {
			_, err := client.RunInstances(t.Context(), &ec2.RunInstancesInput{
				ImageId: aws.String("resolve:ssm:/aws/service/hello"), InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &subnet,
				BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdb"), Ebs: &types.EbsBlockDevice{SnapshotId: &plain, Encrypted: aws.Bool(true), KmsKeyId: aws.String(ownKey)}}},
			})
			return err
		}, slices.Concat(running, []string{"ec2:RunInstances snapshot/" + plain, "ssm:GetParameters parameter/aws/service/hello"},
			using(ownKey, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext"))},
		"an instance of a launch template": {func() error {
			_, err := client.RunInstances(t.Context(), &ec2.RunInstancesInput{
				LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("hello")}, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &subnet,
			})
			return err
		}, slices.Concat(running, []string{"ec2:CreateTags instance/*", "ec2:RunInstances launch-template/" + templateID, "iam:PassRole role/hello", "ssm:GetParameters parameter/hello/ami"})},
		"a version whose parameter is read": {func() error {
			_, err := client.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: aws.String("hello"), ResolveAlias: aws.Bool(true)})
			return err
		}, []string{"ec2:DescribeLaunchTemplateVersions *", "ssm:GetParameters parameter/hello/ami"}},
		"an encrypted volume": {func() error {
			_, err := client.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), SnapshotId: &encrypted})
			return err
		}, slices.Concat([]string{"ec2:CreateVolume snapshot/" + encrypted, "ec2:CreateVolume volume/*"},
			using(ownKey, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"))},
		"a copy under another key": {func() error {
			_, err := client.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String(doortest.Region), SourceSnapshotId: &encrypted, Encrypted: aws.Bool(true), KmsKeyId: aws.String(other)})
			return err
		}, slices.Concat([]string{"ec2:CopySnapshot snapshot/*", "ec2:CopySnapshot snapshot/" + encrypted},
			using(ownKey, "CreateGrant", "Decrypt", "DescribeKey", "ReEncryptFrom"),
			using(other, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptTo"))},
		"a copy under AWS's own key": {func() error {
			_, err := client.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String(doortest.Region), SourceSnapshotId: &byDefault})
			return err
		}, []string{"ec2:CopySnapshot snapshot/*", "ec2:CopySnapshot snapshot/" + byDefault}},
		"an image, copied encrypted": {func() error {
			_, err := client.CopyImage(t.Context(), &ec2.CopyImageInput{
				SourceRegion: aws.String(doortest.Region), SourceImageId: &image, Name: aws.String("copy"), Encrypted: aws.Bool(true), KmsKeyId: aws.String(other),
				TagSpecifications: tags(types.ResourceTypeSnapshot),
			})
			return err
		}, slices.Concat([]string{"ec2:CopyImage image/*", "ec2:CopyImage image/" + image, "ec2:CopyImage snapshot/*", "ec2:CreateTags snapshot/*"},
			using(other, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext"))},
	} {
		t.Run(name, func(t *testing.T) {
			noted() // of the tests before
			if err := test.call(); err != nil {
				t.Fatal(err)
			}
			slices.Sort(test.want)
			if got := noted(); !slices.Equal(got, test.want) {
				t.Errorf("notes\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}
