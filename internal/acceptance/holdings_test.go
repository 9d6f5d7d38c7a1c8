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
// region: images, snapshots and launch template versions with their tags, and
// groups with what they launch.
type holdings map[string]string

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
			all[fmt.Sprintf("%s:%d", *version.LaunchTemplateId, *version.VersionNumber)] = aws.ToString(version.VersionDescription)
		}
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
