package ebs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

func TestSnapshotsOfARegionAreLimited(t *testing.T) {
	f := serve(t)
	one := &storage.Snapshot{OwnerId: api.Account, State: storage.Completed} // what they are does not matter
	f.books.Do(func() {
		for n := range 100000 {
			f.store.In(doortest.Region).Snapshots[fmt.Sprint(n)] = one
		}
	})
	_, err := f.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if e, ok := errors.AsType[*types.ServiceQuotaExceededException](err); !ok || e.Reason != types.ServiceQuotaExceededExceptionReasonDependencyServiceQuotaExceeded {
		t.Errorf("got %v, want that the quota is exceeded", err)
	}
	f.books.Do(func() { clear(f.store.In(doortest.Region).Snapshots) })
}
