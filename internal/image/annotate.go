package image

import (
	"context"
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// Annotator puts tags beside those that are there; satisfied by *ec2.Client.
type Annotator interface {
	Tagger
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
}

// Annotate puts tags onto an AMI and onto the snapshots of its own, the same onto
// each, and never so many that one of them had more than EC2 allows: what has
// no room is taken from the last of the groups first. It returns the tags that
// were put, when they can be seen, and the keys that had no room.
func Annotate(ctx context.Context, api Annotator, id string, groups ...map[string]string) (put map[string]string, left []string, err error) {
	image, err := Describe(ctx, api, id)
	if err != nil {
		return nil, nil, fmt.Errorf("tag: %w", err)
	}
	present := Tags(image)
	if ids := ownSnapshots(image); len(ids) > 0 {
		found, err := api.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids})
		if err != nil {
			return nil, nil, fmt.Errorf("look up the tags of the snapshots of AMI %s (ec2:DescribeSnapshots): %w", id, err)
		}
		for _, snapshot := range found.Snapshots {
			for _, tag := range snapshot.Tags {
				present[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
			}
		}
	}
	// A key that only one of the resources has counts for all, and takes no
	// room once more where it is written over.
	put, left = tags.Fit(present, groups...)
	if err := Tag(ctx, api, id, put); err != nil {
		return nil, nil, err
	}
	return put, left, waitTagged(ctx, api, id, put)
}

// EC2 shows new tags with a delay, and who comes next in the build reads them.
func waitTagged(ctx context.Context, api Describer, id string, put map[string]string) error {
	return cloud.Wait(ctx, cloud.Until{What: fmt.Sprintf("the tags of AMI %s can be seen", id), Deadline: cloud.Visibility},
		func(ctx context.Context) (bool, string, error) {
			image, err := Describe(ctx, api, id)
			if err != nil {
				return false, "", err
			}
			seen := Tags(image)
			both := maps.Clone(seen)
			maps.Copy(both, put)
			return maps.Equal(seen, both), fmt.Sprintf("it has the tags %v", seen), nil
		})
}
