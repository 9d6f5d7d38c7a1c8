package direct

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
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
