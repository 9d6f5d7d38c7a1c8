// Package snapshot reads and writes EBS snapshots block by block, with the EBS
// direct APIs: it brings a snapshot to a local sparse file, finds the blocks in
// which a disk differs from it, and writes just those to a new snapshot.
package snapshot

import (
	"context"
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

// Describe looks up a snapshot.
func Describe(ctx context.Context, api Keeper, id string) (types.Snapshot, error) {
	found, err := api.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return types.Snapshot{}, fmt.Errorf("look up snapshot %s: %w", id, err)
	}
	if len(found.Snapshots) == 0 {
		return types.Snapshot{}, fmt.Errorf("look up snapshot %s: there is none", id)
	}
	return found.Snapshots[0], nil
}

// Wait waits until a snapshot is completed.
func Wait(ctx context.Context, api Keeper, id string) error {
	until := cloud.Until{What: "snapshot " + id + " is completed", Deadline: 2 * time.Hour}
	began := time.Now()
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		s, err := Describe(ctx, api, id)
		if cloud.Code(err) == "InvalidSnapshot.NotFound" && time.Since(began) < visibility {
			return false, "not visible yet", nil
		}
		if err != nil {
			return false, "", err
		}
		if s.State == types.SnapshotStateError {
			return false, "", fmt.Errorf("AWS says: %s: %s", s.State, aws.ToString(s.StateMessage))
		}
		return s.State == types.SnapshotStateCompleted, fmt.Sprintf("%s %s", s.State, aws.ToString(s.Progress)), nil
	})
}

// Delete deletes a snapshot; one that is gone already is no error. An image
// that was just deregistered may seem to use it for a while yet.
func Delete(ctx context.Context, api Keeper, id string) error {
	until := cloud.Until{What: "snapshot " + id + " is deleted (ec2:DeleteSnapshot)", Deadline: time.Minute}
	return cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		_, err := api.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		switch cloud.Code(err) {
		case "InvalidSnapshot.NotFound":
			return true, "", nil
		case "InvalidSnapshot.InUse":
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
}
