package image

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
)

// annotated is an AMI with one snapshot, whose tags are seen late.
type annotated struct {
	of              *types.Image // the AMI but for its tags; nil for one with a single snapshot
	image, snapshot map[string]string
	late            int // looks at the AMI until its new tags are seen
	pending         map[string]string
	resources       []string
}

func (a *annotated) DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	if a.pending != nil {
		if a.late--; a.late < 0 {
			for key, value := range a.pending {
				a.image[key] = value
			}
		}
	}
	if a.of != nil {
		image := *a.of
		image.Tags = tagList(a.image)
		return &ec2.DescribeImagesOutput{Images: []types.Image{image}}, nil
	}
	return &ec2.DescribeImagesOutput{Images: []types.Image{{
		ImageId: new("ami-1"), Tags: tagList(a.image), RootDeviceName: new("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: new("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: new("snap-1")}}},
	}}}, nil
}

func (a *annotated) DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	return &ec2.DescribeSnapshotsOutput{Snapshots: []types.Snapshot{{SnapshotId: new("snap-1"), Tags: tagList(a.snapshot)}}}, nil
}

func (a *annotated) CreateTags(_ context.Context, in *ec2.CreateTagsInput, _ ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error) {
	a.resources = in.Resources
	a.pending = map[string]string{}
	for _, tag := range in.Tags {
		a.pending[*tag.Key] = *tag.Value
	}
	return &ec2.CreateTagsOutput{}, nil
}

func TestAnnotateWaitsUntilTheTagsAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &annotated{image: map[string]string{"Name": "hello"}, late: 5}
		put, left, err := Annotate(t.Context(), a, "ami-1", map[string]string{"Source/CommitId": "c0ffee"})
		if err != nil || len(left) != 0 {
			t.Fatal(left, err)
		}
		if diff := cmp.Diff(map[string]string{"Name": "hello", "Source/CommitId": "c0ffee"}, a.image); diff != "" {
			t.Errorf("tags that are seen when Annotate returns:\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{"Source/CommitId": "c0ffee"}, put); diff != "" {
			t.Errorf("tags put:\n%s", diff)
		}
		slices.Sort(a.resources)
		if diff := cmp.Diff([]string{"ami-1", "snap-1"}, a.resources); diff != "" {
			t.Errorf("resources tagged:\n%s", diff)
		}
	})
}

func TestAnnotateCountsTheTagsOfTheSnapshotsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &annotated{image: map[string]string{}, snapshot: map[string]string{}}
		for i := range 49 {
			a.snapshot[fmt.Sprint(i)] = "x"
		}
		put, left, err := Annotate(t.Context(), a, "ami-1", map[string]string{"first": "1"}, map[string]string{"second": "2", "3": "over"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"first": "1", "3": "over"}, put); diff != "" {
			t.Errorf("tags put:\n%s", diff)
		}
		if diff := cmp.Diff([]string{"second"}, left); diff != "" {
			t.Errorf("keys without room:\n%s", diff)
		}
	})
}
