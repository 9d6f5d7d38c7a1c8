package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// story is what happened in the demo, as seen from outside of the plugin.
type story struct {
	setUp                       time.Duration
	output                      rehearsal.Output
	requests                    rehearsal.Report
	versionBefore, versionAfter string
	firstAMI                    string
}

// tell prints the story. What AWS would know is asked of the sandbox.
func (s story) tell(ctx context.Context, box *rehearsal.Sandbox) error {
	ami, err := s.output.AMI()
	if err != nil {
		return err
	}
	image, err := describeImage(ctx, box, ami)
	if err != nil {
		return err
	}
	refreshes, err := autoscaling.NewFromConfig(box.Config()).DescribeInstanceRefreshes(ctx,
		&autoscaling.DescribeInstanceRefreshesInput{AutoScalingGroupName: aws.String(groupName)})
	if err != nil {
		return err
	}

	say("What happened")
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		fmt.Fprintf(table, "%s\t"+format+"\n", append([]any{name}, values...)...)
	}
	row("AMI", "%s  %s", ami, aws.ToString(image.Name))
	for _, tag := range image.Tags {
		if strings.HasPrefix(*tag.Key, "Source/") {
			row("  "+*tag.Key, "%s", *tag.Value)
		}
	}
	for _, refresh := range refreshes.InstanceRefreshes {
		row("instance refresh", "%s  %s, %d%%", *refresh.InstanceRefreshId, refresh.Status, aws.ToInt32(refresh.PercentageComplete))
	}
	row("set-up (bake and group of "+before+")", "%s", seconds(s.setUp))
	if stages := s.output.Find(`Stages: (.*)`); stages != nil {
		row("stages of the bake", "%s", stages[1])
	}
	for _, stage := range s.stages() {
		row(stage.name, "%s", seconds(stage.took))
	}
	row("packer build in all", "%s", seconds(s.output.Lines[len(s.output.Lines)-1].At))
	if uploaded := s.output.Find(`[Uu]ploaded (.*)`); uploaded != nil {
		row("uploaded", "%s", uploaded[1])
	}
	row("requests served", "%d  %v", s.requests.Served, s.requests.ByVersion)
	row("requests failed", "%d", s.requests.Failed)
	row("version before, after", "%s, %s", s.versionBefore, s.versionAfter)
	return table.Flush()
}

// judge fails where the story did not end well.
func (s story) judge(ctx context.Context, box *rehearsal.Sandbox) error {
	var errs []error
	if s.requests.Failed > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed:\n  %s", s.requests.Failed, strings.Join(s.requests.Failures, "\n  ")))
	}
	if s.versionBefore != before || s.versionAfter != after {
		errs = append(errs, fmt.Errorf("version %s answered before and %s after, want %s and %s", s.versionBefore, s.versionAfter, before, after))
	}
	ami, err := s.output.AMI()
	errs = append(errs, err)
	running, err := box.RunningImages(ctx, groupName)
	errs = append(errs, err)
	if len(running) != 1 || running[ami] != groupSize {
		errs = append(errs, fmt.Errorf("instances in service by image: %v, want %d of %s", running, groupSize, ami))
	}
	return errors.Join(errs...)
}

func describeImage(ctx context.Context, box *rehearsal.Sandbox, ami string) (ec2types.Image, error) {
	images, err := ec2.NewFromConfig(box.Config()).DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{ami}})
	if err != nil {
		return ec2types.Image{}, err
	}
	return images.Images[0], nil
}

// stage is a part of the build.
type stage struct {
	name string
	took time.Duration
}

// stages divides the build by what packer says of its post-processors.
func (s story) stages() []stage {
	var parts []stage
	begun, name := time.Duration(0), "bake"
	for _, part := range []struct{ name, line string }{
		{"tag", `Running post-processor: .*immutable-tag`},
		{"rollout", `Running post-processor: .*immutable-rollout`},
		{"", `Builds finished`},
	} {
		at, ok := s.output.At(part.line)
		if !ok {
			continue
		}
		parts = append(parts, stage{name, at - begun})
		begun, name = at, part.name
	}
	return parts
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
