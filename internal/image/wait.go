package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// errGone says that an image that was waited for does not exist any more.
var errGone = errors.New("it does not exist (any more)")

// Wait waits until an image is available. Born is not nil where it was just
// created.
func Wait(ctx context.Context, api Describer, id string, born *cloud.Newborn) (image types.Image, err error) {
	until := cloud.Until{What: "AMI " + id + " is available", First: 500 * time.Millisecond, Every: 15 * time.Second, Deadline: 2 * time.Hour}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		image, err = Describe(ctx, api, id)
		if missing := (*NotFoundError)(nil); errors.As(err, &missing) {
			if born.MayAppear() {
				return false, "not visible yet", nil
			}
			return false, "", errGone
		}
		if err != nil {
			return false, "", err
		}
		born.Seen()
		switch image.State {
		case types.ImageStateAvailable:
			return true, "", nil
		case types.ImageStatePending, types.ImageStateTransient:
			return false, string(image.State), nil
		case types.ImageStateDeregistered:
			return false, "", errGone
		default:
			return false, "", fmt.Errorf("AWS says: %s: %s", image.State, reason(image))
		}
	})
	return image, err
}

func reason(image types.Image) string {
	if image.StateReason == nil {
		return "no reason given"
	}
	return aws.ToString(image.StateReason.Code) + ": " + aws.ToString(image.StateReason.Message)
}
