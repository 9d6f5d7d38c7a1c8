package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// crowd is how many simulated instances the sandbox is measured with.
const crowd = 10000

// crowded refreshes a group of simulated instances behind a load balancer, in a
// sandbox process of its own, looking at it five times a second. It
// gives what the refresh took, and the most memory that the process had
// resident, in MiB.
//
// Times are a hundredth: what is measured is the sandbox's own work, not the waiting
// for health checks and deregistration delays that it would do for anybody.
func crowded(ctx context.Context, stage *rehearsal.Stage) (took time.Duration, memory float64, err error) {
	disk := filepath.Join(stage.Dir, "empty.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		return 0, 0, err
	}
	box, err := stage.Start(ctx, "--base-disk", disk, "--machines", "none", "--profile", "instant", "--time-scale", "0.01")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, box.Stop()) }()

	compute := ec2.NewFromConfig(box.Config())
	images, err := compute.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	if err != nil {
		return 0, 0, err
	}
	group, err := box.NewGroup(ctx, rehearsal.GroupSpec{Name: "crowd", ImageID: *images.Images[0].ImageId, Size: crowd, Port: 8080})
	if err != nil {
		return 0, 0, err
	}
	if err := box.WaitHealthy(ctx, group, crowd); err != nil {
		return 0, 0, err
	}
	if _, err := compute.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateId: &group.LaunchTemplateID, SourceVersion: aws.String("1"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{EbsOptimized: aws.Bool(true)},
	}); err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if err := refresh(ctx, autoscaling.NewFromConfig(box.Config()), group); err != nil {
		return 0, 0, err
	}
	took = time.Since(begun)
	return took, residentMemory(box.PID()), nil
}

// refresh brings a group to version 2 of its launch template.
func refresh(ctx context.Context, scaling *autoscaling.Client, group rehearsal.Group) error {
	if _, err := scaling.StartInstanceRefresh(ctx, &autoscaling.StartInstanceRefreshInput{
		AutoScalingGroupName: &group.Name,
		DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &group.LaunchTemplateID, Version: aws.String("2")}},
		Preferences:          &types.RefreshPreferences{MinHealthyPercentage: aws.Int32(100), MaxHealthyPercentage: aws.Int32(110)},
	}); err != nil {
		return err
	}
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
		if _, err := scaling.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{group.Name}}); err != nil {
			return err
		}
		out, err := scaling.DescribeInstanceRefreshes(ctx, &autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: &group.Name})
		if err != nil {
			return err
		}
		switch r := out.InstanceRefreshes[0]; {
		case r.Status == types.InstanceRefreshStatusSuccessful:
			return nil
		case r.EndTime != nil:
			return fmt.Errorf("the refresh of %d instances ended %s: %s", crowd, r.Status, aws.ToString(r.StatusReason))
		}
	}
}
