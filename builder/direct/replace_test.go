package direct

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// launch starts an instance of an AMI.
func (l *local) launch(ami string) (id string) {
	l.t.Helper()
	out, err := l.ec2.RunInstances(context.Background(), &ec2.RunInstancesInput{
		ImageId: &ami, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return *out.Instances[0].InstanceId
}

func (l *local) terminate(id string) {
	ctx := context.Background()
	if _, err := l.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		l.t.Error(err)
	}
	wait := ec2.NewInstanceTerminatedWaiter(l.ec2, func(o *ec2.InstanceTerminatedWaiterOptions) { o.MinDelay, o.MaxDelay = 1e7, 1e8 })
	if err := wait.Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, 60e9); err != nil {
		l.t.Error(err)
	}
}

// asked answers what -on-error=ask asks.
type asked struct {
	packersdk.Ui
	answer func() string
}

func (a asked) Ask(string) (string, error) { return a.answer(), nil }

func TestAnAMIOfInstancesIsNotReplaced(t *testing.T) {
	l := openLocal(t)
	options := map[string]any{"ami_name": "hello", "force_deregister": true, "packer_on_error": "ask"}
	artifact, err := l.build(t.Context(), options, nothing)
	if err != nil {
		t.Fatal(err)
	}
	old := amiOf(t, artifact)
	var instance string
	run := func(p provision, answer func() string) (packersdk.Artifact, error) {
		var b Builder
		if _, _, err := b.Prepare(options); err != nil {
			t.Fatal(err)
		}
		return b.Run(t.Context(), asked{newUi(t), answer}, p)
	}

	t.Run("before the bake", func(t *testing.T) {
		instance = l.launch(old)
		baked := false
		_, err := run(func(context.Context, packersdk.Communicator) error { baked = true; return nil }, func() string { return "c" })
		if err == nil || baked {
			t.Fatalf("baked: %t, error: %v", baked, err)
		}
		for _, want := range []string{"force_deregister", `ami_name "hello"`, old, instance, "version"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		l.terminate(instance)
	})
	t.Run("at the last moment, and a retry goes on when they are gone", func(t *testing.T) {
		asks := 0
		artifact, err := run(func(context.Context, packersdk.Communicator) error {
			instance = l.launch(old)
			return nil
		}, func() string {
			asks++
			l.terminate(instance)
			return "r"
		})
		if err != nil {
			t.Fatal(err)
		}
		if asks != 1 {
			t.Errorf("the build failed %d times", asks)
		}
		// What was retried is kept.
		if name := aws.ToString(l.image(amiOf(t, artifact)).Name); name != "hello" {
			t.Errorf("the new AMI has the name %q", name)
		}
	})
}

// leave makes an AMI that looks as one that a killed build has left.
func (l *local) leave(name string) (ami string) {
	l.t.Helper()
	artifact, err := l.build(l.t.Context(), map[string]any{"ami_name": name}, nothing)
	if err != nil {
		l.t.Fatal(err)
	}
	ami = amiOf(l.t, artifact)
	_, err = l.ec2.CreateTags(l.t.Context(), &ec2.CreateTagsInput{Resources: []string{ami}, Tags: []types.Tag{
		{Key: aws.String(cloud.TagRun), Value: aws.String("killed")},
		{Key: aws.String(cloud.TagExpires), Value: aws.String("2026-01-02T03:04:05Z")},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	return ami
}

func TestTheNameOfAnAMILeftBehindIsUsedAgain(t *testing.T) {
	l := openLocal(t)
	left := l.leave("hello")
	snapshot := *l.image(left).BlockDeviceMappings[0].Ebs.SnapshotId
	artifact, err := l.build(t.Context(), map[string]any{"ami_name": "hello"}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if name := aws.ToString(l.image(amiOf(t, artifact)).Name); name != "hello" {
		t.Errorf("the new AMI has the name %q", name)
	}
	if _, err := image.Describe(t.Context(), l.ec2, left); err == nil {
		t.Errorf("%s is still there", left)
	}
	_, err = l.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}})
	if cloud.Code(err) != "InvalidSnapshot.NotFound" {
		t.Errorf("%s is still there (%v)", snapshot, err)
	}
}

func TestAnAMIThatIsFinishedMeanwhileKeepsItsName(t *testing.T) {
	l := openLocal(t)
	others := l.leave("hello")
	_, err := l.build(t.Context(), map[string]any{"ami_name": "hello"}, func(ctx context.Context, _ packersdk.Communicator) error {
		return image.Finish(ctx, l.ec2, others)
	})
	if err == nil || !strings.Contains(err.Error(), others) || !strings.Contains(err.Error(), "ami_name") {
		t.Errorf("error %v, want one that names ami_name and %s", err, others)
	}
	if name := aws.ToString(l.image(others).Name); name != "hello" {
		t.Errorf("%s has the name %q", others, name)
	}
}
