package ebs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ebs"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

func TestASnapshotJustStartedMayNotExistYet(t *testing.T) {
	books, clock := doortest.Books(t), doortest.Clock(t)
	store, err := storage.Open(books)
	if err != nil {
		t.Fatal(err)
	}
	service, err := ebs.New(books, clock, store, &account{})
	if err != nil {
		t.Fatal(err)
	}
	late := fault.Rule{Operations: "ebs:StartSnapshot", Kind: fault.Late, When: fault.Before, Rate: 1, For: time.Hour}
	client := awsebs.NewFromConfig(doortest.Config(doortest.ServerOf(t, door.Config{
		Books: books, Clock: clock, Faults: fault.New(1, late), Services: []*api.Service{service.API()},
	})))
	out, err := client.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.PutSnapshotBlock(t.Context(), putInput(*out.SnapshotId, 0, contents(1)))
	if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || missing.Reason != types.ResourceNotFoundExceptionReasonSnapshotNotFound {
		t.Errorf("a block was put with %v, want that the snapshot does not exist", err)
	}
}
