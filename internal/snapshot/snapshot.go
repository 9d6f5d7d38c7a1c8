// Package snapshot reads and writes EBS snapshots block by block, with the EBS
// direct APIs: it brings a snapshot to a local sparse file, finds the blocks in
// which a disk differs from it, and writes just those to a new snapshot.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Reader reads snapshots; satisfied by the client of NewClient.
type Reader interface {
	ListSnapshotBlocks(context.Context, *ebs.ListSnapshotBlocksInput, ...func(*ebs.Options)) (*ebs.ListSnapshotBlocksOutput, error)
	GetSnapshotBlock(context.Context, *ebs.GetSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error)
}

// Writer writes snapshots; satisfied by the client of NewClient.
type Writer interface {
	StartSnapshot(context.Context, *ebs.StartSnapshotInput, ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
	PutSnapshotBlock(context.Context, *ebs.PutSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
	CompleteSnapshot(context.Context, *ebs.CompleteSnapshotInput, ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
}

// Keeper looks after whole snapshots; satisfied by *ec2.Client.
type Keeper interface {
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
	DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error)
}

// Ui shows progress; packersdk.Ui is one.
type Ui interface {
	Say(line string)
	TrackProgress(src string, current, total int64, r io.ReadCloser) io.ReadCloser
}

// NewClient makes a client that never retries: this package does, with its own
// account of how much the service bears. Two layers of retries multiply, and
// the SDK's quota of retries would be spent by the first spell of throttling.
func NewClient(cfg aws.Config) *ebs.Client {
	return ebs.NewFromConfig(cfg, func(o *ebs.Options) { o.Retryer = aws.NopRetryer{} })
}

// Describe looks up a snapshot, one that was just made also for as long as it may
// not be found yet.
func Describe(ctx context.Context, api Keeper, id string) (s types.Snapshot, err error) {
	born := cloud.Born()
	until := cloud.Until{What: "snapshot " + id + " can be seen"}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		s, err = look(ctx, api, id)
		if missing(err) && born.MayAppear() {
			return false, "not visible yet", nil
		}
		return true, "", err
	})
	return s, err
}

func look(ctx context.Context, api Keeper, id string) (types.Snapshot, error) {
	found, err := api.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return types.Snapshot{}, fmt.Errorf("look up snapshot %s: %w", id, err)
	}
	if len(found.Snapshots) == 0 {
		return types.Snapshot{}, fmt.Errorf("look up snapshot %s: %w", id, errNone)
	}
	return found.Snapshots[0], nil
}

var errNone = errors.New("there is none")

// missing says that AWS does not find a snapshot.
func missing(err error) bool {
	return cloud.Code(err) == "InvalidSnapshot.NotFound" || errors.Is(err, errNone)
}

// Wait waits until the snapshot is completed.
func (u *Upload) Wait(ctx context.Context, api Keeper) error {
	until := cloud.Until{What: "snapshot " + u.ID + " is completed", Deadline: 2 * time.Hour}
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		s, err := look(ctx, api, u.ID)
		if missing(err) && u.born.MayAppear() {
			return false, "not visible yet", nil
		}
		if err != nil {
			return false, "", err
		}
		u.born.Seen()
		if s.State == types.SnapshotStateError {
			return false, "", fmt.Errorf("AWS says: %s: %s", s.State, aws.ToString(s.StateMessage))
		}
		return s.State == types.SnapshotStateCompleted, fmt.Sprintf("%s %s", s.State, aws.ToString(s.Progress)), nil
	})
}

// Delete deletes the snapshot; that it is gone already is no error. An image
// that was just deregistered may seem to use it for a while yet.
func (u *Upload) Delete(ctx context.Context, api Keeper) error {
	until := cloud.Until{What: "snapshot " + u.ID + " is deleted (ec2:DeleteSnapshot)", Deadline: time.Minute}
	if u.born.MayAppear() {
		until.Deadline += cloud.Visibility
	}
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		_, err := api.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &u.ID})
		switch cloud.Code(err) {
		case "InvalidSnapshot.NotFound":
			return !u.born.MayAppear(), "not visible yet", nil
		case "InvalidSnapshot.InUse":
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
}
