package instance

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

func TestBuildLeavesTheAMIAlone(t *testing.T) {
	for _, method := range []string{methodSnapshot, methodImage} {
		t.Run(method, func(t *testing.T) {
			l := openLocal(t)
			made := l.made(map[string]any{"image_method": method})
			l.assertLeft(append(image.Snapshots(made), *made.ImageId)...)
		})
	}
}

func TestReuse(t *testing.T) {
	l := openLocal(t)
	build := func(options map[string]any) (string, bool) {
		t.Helper()
		artifact, err := l.build(t.Context(), options, nil)
		if err != nil {
			t.Fatal(err)
		}
		reused, _ := artifact.State(ami.StateReused).(bool)
		if reused {
			if err := artifact.Destroy(); err != nil {
				t.Error(err)
			}
		}
		return strings.TrimPrefix(artifact.Id(), "eu-west-1:"), reused
	}
	first, reused := build(map[string]any{"ami_name": "first", "reuse_key": "one"})
	if reused {
		t.Fatal("there was nothing to use again")
	}
	launches := l.called("CreateFleet")
	for name, options := range map[string]map[string]any{
		"by the same name": {"ami_name": "first", "reuse_key": "one"},
		"by another name":  {"ami_name": "second", "reuse_key": "one"},
	} {
		if id, reused := build(options); id != first || !reused {
			t.Errorf("%s: the artifact is %s, want %s", name, id, first)
		}
	}
	if n := l.called("CreateFleet"); n != launches {
		t.Errorf("%d instances were launched for nothing", n-launches)
	}
	if tags := image.Tags(l.image(first)); tags[ami.TagReuseKey] != "one" || !strings.HasPrefix(tags[ami.TagBase], "ami-") {
		t.Errorf("the AMI's tags are %v", tags)
	}
	for name, options := range map[string]map[string]any{
		"with -force":      {"ami_name": "forced", "reuse_key": "one", "packer_force": true},
		"with another key": {"ami_name": "third", "reuse_key": "two"},
		"without a key":    {"ami_name": "fourth"},
	} {
		if id, reused := build(options); id == first || reused {
			t.Errorf("%s: the artifact is %s again", name, id)
		}
	}
}

func TestReuseOfWhatIsOfNoUse(t *testing.T) {
	l := openLocal(t)
	options := func(name string) map[string]any { return map[string]any{"ami_name": name, "reuse_key": "one"} }
	made := *l.made(options("first")).ImageId
	if _, err := l.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{made}, Tags: []types.Tag{{Key: aws.String("immutable:expires"), Value: aws.String("2026-01-02T03:04:05Z")}}}); err != nil {
		t.Fatal(err)
	}
	if again := *l.made(options("second")).ImageId; again == made {
		t.Error("an AMI that is not finished is used again")
	}
}

func TestSpotInstanceIsNotStopped(t *testing.T) {
	l := openLocal(t)
	made := l.made(map[string]any{"spot": true})
	l.assertLeft(append(image.Snapshots(made), *made.ImageId)...)
	if n := l.called("StopInstances"); n > 0 {
		t.Errorf("it was stopped %d times", n)
	}
	if i := l.instances()[0]; i.InstanceLifecycle != types.InstanceLifecycleTypeSpot {
		t.Errorf("the instance is of the lifecycle %q", i.InstanceLifecycle)
	}
}
