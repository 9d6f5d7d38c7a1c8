package base

import (
	"context"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/snapshot"
)

// Ui is told what happens; packersdk.Ui is one.
type Ui interface {
	Say(line string)
	TrackProgress(src string, current, total int64, r io.ReadCloser) io.ReadCloser
}

// Disk is a base whose disk is on this machine.
type Disk struct {
	// Path is a raw image, shared with other builds: it must be copied, never
	// changed.
	Path string
	// Size is that of the disk in bytes.
	Size int64
	// Source is the AMI that the options name; nil for source_image.
	Source *types.Image
	// Image is the AMI of this account that the disk was read from: Source, or
	// the copy of it. Nil for source_image.
	Image *types.Image
	// Index holds the digests of the blocks of Image's root snapshot; nil for
	// source_image.
	Index *snapshot.Index
}

// Wish is what Fetch needs to know beside the options. Its zero value is right
// where the base does not come from AWS.
type Wish struct {
	// AWS is the configuration of the region that the build works in.
	AWS aws.Config
	// Run marks what is begun in AWS.
	Run cloud.Run
	// Encryption is how a copy of the base must be encrypted.
	Encryption image.Encryption
}

// Fetch brings the base to this machine, or finds it here from an earlier
// build. Small files that only this build needs go to dir.
func (c Config) Fetch(ctx context.Context, ui Ui, wish Wish, dir string) (Disk, error) {
	return Disk{}, errors.New("not yet written")
}
