package ec2

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// pend adds pending snapshots, copies or of volumes.
func (w *world) pend(n int, volume string) {
	w.books.Do(func() {
		for range n {
			s := storage.NewSnapshot(time.Now(), 1)
			if volume != "" {
				s.VolumeId = volume
			}
			w.store.Add(doortest.Region, s, nil)
		}
	})
}

func TestSnapshotCopiesInProgressAreLimited(t *testing.T) {
	w := newWorld(t)
	w.pend(maxSnapshotCopies-1, "")
	from := &ec2.CopySnapshotInput{SourceRegion: aws.String(doortest.Region), SourceSnapshotId: aws.String(w.snapshot(1))}
	if _, err := w.CopySnapshot(t.Context(), from); err != nil {
		t.Error(err)
	}
	w.pend(1, "")
	_, err := w.CopySnapshot(t.Context(), from)
	refused(t, err, "ResourceLimitExceeded")
}

func TestImageCopiesInProgressAreLimited(t *testing.T) {
	w := newWorld(t)
	id := w.image("original")
	w.books.Do(func() {
		r := w.service.in(doortest.Region)
		for range maxImageCopies {
			copied := *r.Images[id]
			copied.resource, copied.State, copied.SourceImage = r.newResource("ami", nil), imagePending, id
			r.Images[copied.Id] = &copied
		}
	})
	_, err := w.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("copy"), SourceImageId: &id, SourceRegion: aws.String(doortest.Region)})
	refused(t, err, "ResourceLimitExceeded")
}

func TestPendingSnapshotsAreLimited(t *testing.T) {
	w := newWorld(t)
	made, err := w.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String(doortest.Region + "a"), Size: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	volumes := ec2.NewVolumeAvailableWaiter(w, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := volumes.Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*made.VolumeId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	w.pend(maxPendingSnapshots, *made.VolumeId)
	_, err = w.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: made.VolumeId})
	refused(t, err, "PendingSnapshotLimitExceeded")
}

func TestSnapshotsAreLimited(t *testing.T) {
	w := newWorld(t)
	var err error
	w.books.Do(func() {
		snapshots := w.store.In(doortest.Region).Snapshots
		one := &storage.Snapshot{OwnerId: api.Account, State: storage.Completed}
		for i := range maxSnapshots {
			snapshots[fmt.Sprint(i)] = one // what they are does not matter
		}
		err = w.service.in(doortest.Region).roomForSnapshots(1)
		clear(snapshots)
	})
	if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != "SnapshotLimitExceeded" {
		t.Errorf("got %v, want the error SnapshotLimitExceeded", err)
	}
}
