package image

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestOnlyAnAvailableImageIsFoundByItsTags(t *testing.T) {
	for _, state := range []types.ImageState{types.ImageStatePending, types.ImageStateDisabled, types.ImageStateInvalid, types.ImageStateError} {
		t.Run(string(state), func(t *testing.T) {
			fake, tags := newFake(), map[string]string{"App": "web"}
			fake.images["ami-0a"] = &types.Image{ImageId: aws.String("ami-0a"), Name: aws.String("web"), State: state, Tags: tagList(tags)}
			_, err := Tagged{Tags: tags}.Find(t.Context(), fake)
			if want := "no AMI with the tags App=web can be handed on: AMI ami-0a (web) is " + string(state); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
			fake.images["ami-0b"] = &types.Image{ImageId: aws.String("ami-0b"), State: types.ImageStateAvailable, Tags: tagList(tags)}
			if found, err := (Tagged{Tags: tags}).Find(t.Context(), fake); err != nil || *found.ImageId != "ami-0b" {
				t.Errorf("found %v, %v", found.ImageId, err)
			}
		})
	}
}
