package acceptance

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// holdings are what an account has that builds and rollouts make or change, in a
// region: images, snapshots, instances, security groups and key pairs with their
// tags, launch template versions with their descriptions, and groups with what
// they launch. Instances of groups are left out.
type holdings map[string]string

// holdings looks at what there is.
func (s scene) holdings(t *testing.T) holdings {
	t.Helper()
	config := s.box.Config()
	config.Region = s.region
	compute, all := ec2.NewFromConfig(config), holdings{}
	images, err := compute.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images.Images {
		all[*image.ImageId] = tagsText(image.Tags)
	}
	snapshots, err := compute.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, snapshot := range snapshots.Snapshots {
		all[*snapshot.SnapshotId] = tagsText(snapshot.Tags)
	}
	templates, err := compute.DescribeLaunchTemplates(t.Context(), &ec2.DescribeLaunchTemplatesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, template := range templates.LaunchTemplates {
		versions, err := compute.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: template.LaunchTemplateId})
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range versions.LaunchTemplateVersions {
			if len(template.Tags) > 0 {
				version.VersionDescription = aws.String(tagsText(template.Tags))
			}
			all[fmt.Sprintf("%s:%d", *version.LaunchTemplateId, *version.VersionNumber)] = aws.ToString(version.VersionDescription)
		}
	}
	instances, err := compute.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{
		Filters: []ec2types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, reservation := range instances.Reservations {
		for _, instance := range reservation.Instances {
			if !slices.ContainsFunc(instance.Tags, func(tag ec2types.Tag) bool { return *tag.Key == "aws:autoscaling:groupName" }) {
				all[*instance.InstanceId] = tagsText(instance.Tags)
			}
		}
	}
	security, err := compute.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range security.SecurityGroups {
		all[*group.GroupId] = tagsText(group.Tags)
	}
	keys, err := compute.DescribeKeyPairs(t.Context(), &ec2.DescribeKeyPairsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys.KeyPairs {
		all[*key.KeyPairId] = tagsText(key.Tags)
	}
	groups, err := autoscaling.NewFromConfig(config).DescribeAutoScalingGroups(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range groups.AutoScalingGroups {
		all[*group.AutoScalingGroupName] = aws.ToString(group.LaunchTemplate.Version)
	}
	return all
}

func tagsText(tags []ec2types.Tag) string {
	text := map[string]string{}
	for _, tag := range tags {
		text[*tag.Key] = *tag.Value
	}
	return fmt.Sprint(text)
}

// left are what there is now and was not before, or was otherwise.
func (before holdings) left(now holdings) holdings {
	left := maps.Clone(now)
	maps.DeleteFunc(left, func(id, what string) bool { was, known := before[id]; return known && was == what })
	return left
}

func (h holdings) String() string {
	text := ""
	for _, id := range slices.Sorted(maps.Keys(h)) {
		text += fmt.Sprintf("  %s %s\n", id, h[id])
	}
	return text
}
