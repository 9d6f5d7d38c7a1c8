package instance

import (
	"context"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// appearing makes a call that uses what was just made, again and again while EC2
// answers by one of the codes that it does not know it yet.
func appearing(ctx context.Context, born *cloud.Newborn, what string, call func(context.Context) error, codes ...string) error {
	return cloud.Wait(ctx, cloud.Until{What: what + " can be seen"}, func(ctx context.Context) (bool, string, error) {
		err := call(ctx)
		if slices.Contains(codes, cloud.Code(err)) && born.MayAppear() {
			return false, err.Error(), nil
		}
		if err == nil {
			born.Seen()
		}
		return err == nil, "", err
	})
}

// vanishing makes a call that removes something. That EC2 does not know it, by one
// of the codes, is no error, unless it is too young for that to be believed.
func vanishing(ctx context.Context, born *cloud.Newborn, what string, call func(context.Context) error, codes ...string) error {
	return cloud.Wait(ctx, cloud.Until{What: what + " is gone"}, func(ctx context.Context) (bool, string, error) {
		err := call(ctx)
		if slices.Contains(codes, cloud.Code(err)) {
			return !born.MayAppear(), err.Error(), nil
		}
		return err == nil, "", err
	})
}
