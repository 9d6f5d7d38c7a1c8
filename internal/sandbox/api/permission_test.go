package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type in struct{ ImageId, SnapshotId string }

type none struct{}

type page struct{ Done int }

// operations are some of EC2's, made to note or not to note.
type operations struct {
	*ec2.Client
	done *state.Ledger[page]
}

// allowed is a guard that permits the actions that are listed, each on the
// resources that are listed with it.
type allowed []string

func (a allowed) Enter(string) func(action, resource string) error {
	return func(action, resource string) error {
		if slices.Contains(a, action+" "+resource) {
			return nil
		}
		return fmt.Errorf("because no identity-based policy allows the %s action", action)
	}
}

func serve(t *testing.T, guard api.Guard) operations {
	t.Helper()
	books := doortest.Books(t)
	done, err := state.Declare(books, "done", func(string) *page { return &page{} })
	if err != nil {
		t.Fatal(err)
	}
	service := api.NewService("ec2", wire.EC2())
	change := func(c *api.Call) *none { done.In(c.Region).Done++; return &none{} }
	api.Register(service, "DescribeRegions", func(context.Context, *api.Call, *in) (*none, error) { return &none{}, nil })
	api.Register(service, "DeregisterImage", func(_ context.Context, c *api.Call, in *in) (*none, error) {
		c.On("image/"+in.ImageId, "image/"+in.ImageId)
		c.Needs("ec2:DeleteSnapshot", "snapshot/*")
		c.Needs("iam:PassRole")
		return change(c), nil
	})
	api.Register(service, "DeleteSnapshot", func(_ context.Context, c *api.Call, _ *in) (*none, error) { return change(c), nil })
	api.Register(service, "CreateTags", func(_ context.Context, c *api.Call, _ *in) (*none, error) {
		c.Outside(func() {})
		c.On("late")
		return change(c), nil
	})
	config := door.Config{Books: books, Clock: doortest.Clock(t), Guard: guard, Services: []*api.Service{service}}
	return operations{ec2.NewFromConfig(doortest.Config(doortest.ServerOf(t, config))), done}
}

func (o operations) deregister(t *testing.T) error {
	_, err := o.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: aws.String("ami-1")})
	return err
}

func TestARefusedCallSaysWhatItNeedsAndChangesNothing(t *testing.T) {
	all := allowed{"ec2:DeregisterImage image/ami-1", "ec2:DeleteSnapshot snapshot/*", "iam:PassRole *"}
	for without, want := range map[int]string{
		0: "is not authorized to perform: ec2:DeregisterImage on resource: image/ami-1 because no identity-based policy allows the ec2:DeregisterImage action",
		1: "is not authorized to perform: ec2:DeleteSnapshot on resource: snapshot/* because",
		2: "is not authorized to perform: iam:PassRole because",
	} {
		o := serve(t, slices.Delete(slices.Clone(all), without, without+1))
		err := o.deregister(t)
		e, ok := errors.AsType[smithy.APIError](err)
		if !ok || e.ErrorCode() != "UnauthorizedOperation" || !strings.Contains(e.ErrorMessage(), "User: arn:aws:iam::123456789012:user/AKIATEST "+want) {
			t.Errorf("without %s: %v, want UnauthorizedOperation: %s", all[without], err, want)
		}
		if r, ok := errors.AsType[*smithyhttp.ResponseError](err); !ok || r.HTTPStatusCode() != http.StatusForbidden {
			t.Errorf("without %s: %v, want status 403", all[without], err)
		}
		if n := o.done.In(doortest.Region).Done; n != 0 {
			t.Errorf("without %s it was done %d times", all[without], n)
		}
	}
	o := serve(t, all)
	if err := o.deregister(t); err != nil || o.done.In(doortest.Region).Done != 1 {
		t.Errorf("with all of them: %v, done %d times", err, o.done.In(doortest.Region).Done)
	}
}

func TestAnOperationThatReadsIsRefusedAtItsEnd(t *testing.T) {
	_, err := serve(t, allowed{}).DescribeRegions(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "is not authorized to perform: ec2:DescribeRegions because") {
		t.Errorf("got %v, want a refusal", err)
	}
	if _, err := serve(t, allowed{"ec2:DescribeRegions *"}).DescribeRegions(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestADryRunIsRefusedToThoseWhoMayDoItToNothing(t *testing.T) {
	dryRun := &ec2.DeregisterImageInput{ImageId: aws.String("ami-1"), DryRun: aws.Bool(true)}
	for want, guard := range map[string]allowed{"UnauthorizedOperation": {}, "DryRunOperation": {"ec2:DeregisterImage "}} {
		_, err := serve(t, guard).DeregisterImage(t.Context(), dryRun)
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != want {
			t.Errorf("a dry run gave %v, want %s", err, want)
		}
	}
}

func TestAHandlerThatNotesNothingOrTooLateFails(t *testing.T) {
	o := serve(t, nil)
	if _, err := o.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: aws.String("snap-1")}); err == nil || !strings.Contains(err.Error(), "has not noted") {
		t.Errorf("a handler that notes nothing gave %v", err)
	}
	_, err := o.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{}, Tags: []types.Tag{}})
	if err == nil || !strings.Contains(err.Error(), "noted too late") {
		t.Errorf("a handler that notes something after it was outside gave %v", err)
	}
}
