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
// told. Packer destroys a builder's artifact when a post-processor fails: an
// image that a failed rollout has left in a group must outlive that, because
// the group could start no instance without it.
func Unused(ctx context.Context, api InstanceLister, id string) error {
	found, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("image-id"), Values: []string{id}},
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}},
	}})
	if err != nil {
		return fmt.Errorf("AMI %s is kept, because AWS did not say whether instances of it exist (ec2:DescribeInstances): %w", id, err)
	}
	var instances []string
	for _, reservation := range found.Reservations {
		for _, instance := range reservation.Instances {
			instances = append(instances, aws.ToString(instance.InstanceId))
		}
	}
	if len(instances) > 0 {
		return fmt.Errorf("AMI %s is kept, because instances of it exist: %s; deregister it once they are replaced", id, strings.Join(instances, ", "))
	}
	return nil
}
