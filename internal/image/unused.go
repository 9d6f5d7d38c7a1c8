package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// InstanceLister finds instances; satisfied by *ec2.Client.
type InstanceLister interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

// Unused gives an error if instances of an image exist, or if that can't be
// told. Packer destroys a builder's artifact when the first post-processor
// fails (one before it that succeeds and keeps its input saves the artifact):
// an image that a failed rollout has left in a group must outlive that, because
// the group could start no instance without it. Nor may a name be taken from
// such an image.
func Unused(ctx context.Context, api InstanceLister, id string) error {
	found, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("image-id"), Values: []string{id}},
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}},
	}})
	if err != nil {
		return fmt.Errorf("AWS did not say whether instances of AMI %s exist (ec2:DescribeInstances): %w", id, err)
	}
	var instances []string
	for _, reservation := range found.Reservations {
		for _, instance := range reservation.Instances {
			instances = append(instances, aws.ToString(instance.InstanceId))
		}
	}
	if len(instances) > 0 {
		return fmt.Errorf("instances of AMI %s exist: %s", id, strings.Join(instances, ", "))
	}
	return nil
}
