package autoscaling_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
)

func TestARegionHasAtMost500Groups(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		create := func(n int) error {
			_, err := s.CreateAutoScalingGroup(t.Context(), &as.CreateAutoScalingGroupInput{
				AutoScalingGroupName: aws.String(fmt.Sprint("group-", n)), LaunchTemplate: version("1"),
				MinSize: aws.Int32(0), MaxSize: aws.Int32(0), AvailabilityZones: []string{"eu-west-1a"},
			})
			return err
		}
		for n := range 500 {
			if err := create(n); err != nil {
				t.Fatal(err)
			}
		}
		if got := code(create(500)); got != "LimitExceeded" {
			t.Errorf("the 501st group gives %s, want LimitExceeded", got)
		}
	})
}
