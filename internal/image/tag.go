package image

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Tagger tags; satisfied by *ec2.Client.
type Tagger interface {
	Describer
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
}

// Tag puts tags onto an AMI and onto the snapshots that were made for it.
func Tag(ctx context.Context, api Tagger, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	image, err := Describe(ctx, api, id)
	if err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	_, err = api.CreateTags(ctx, &ec2.CreateTagsInput{
		Resources: append(ownSnapshots(image), id),
		Tags:      tagList(tags),
	})
	if err != nil {
		return fmt.Errorf("tag AMI %s and its snapshots (ec2:CreateTags): %w", id, err)
	}
	return nil
}

// Untagger takes tags off; satisfied by *ec2.Client.
type Untagger interface {
	DeleteTags(context.Context, *ec2.DeleteTagsInput, ...func(*ec2.Options)) (*ec2.DeleteTagsOutput, error)
}

// Finish takes off the tag by which a sweep would take the resources for
// something left behind.
func Finish(ctx context.Context, api Untagger, resources ...string) error {
	_, err := api.DeleteTags(ctx, &ec2.DeleteTagsInput{
		Resources: resources,
		Tags:      []types.Tag{{Key: new(cloud.TagExpires)}},
	})
	if err != nil {
		return fmt.Errorf("take the tag %s off %q (ec2:DeleteTags): %w", cloud.TagExpires, resources, err)
	}
	return nil
}
