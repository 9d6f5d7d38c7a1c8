package base

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

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
	// Index holds the digests of the disk's blocks; nil where nobody knows
	// them yet.
	Index *snapshot.Index
	// Source is the AMI that the options name, and Image the one of this
	// account that the disk was read from: Source, or the copy of it. Both are
	// nil for source_image.
	Source, Image *types.Image
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
// build.
func (c Config) Fetch(ctx context.Context, ui Ui, wish Wish) (Disk, error) {
	if c.FromAWS() {
		return c.fetchAMI(ctx, ui, wish)
	}
	return c.fetchImage(ctx, ui)
}

// cache is where the disks of bases are kept between builds.
func cache() (snapshot.Cache, error) {
	dir, err := packersdk.CachePath("immutable", "base")
	if err != nil {
		return snapshot.Cache{}, fmt.Errorf("find Packer's cache directory: %w; set PACKER_CACHE_DIR to a directory that can be written", err)
	}
	return snapshot.Cache{Dir: dir}, nil
}

// Generated describes the base to provisioners, post-processors and templates,
// by the names of the amazon plugin.
func (d Disk) Generated(region string) map[string]any {
	generated := map[string]any{"BuildRegion": region}
	for _, name := range GeneratedNames[1:] {
		generated[name] = ""
	}
	if i := d.Source; i != nil {
		generated["SourceAMI"] = aws.ToString(i.ImageId)
		generated["SourceAMIName"] = aws.ToString(i.Name)
		generated["SourceAMICreationDate"] = aws.ToString(i.CreationDate)
		generated["SourceAMIOwner"] = aws.ToString(i.OwnerId)
		generated["SourceAMIOwnerName"] = aws.ToString(i.ImageOwnerAlias)
	}
	return generated
}

// GeneratedNames are the names that Generated gives.
var GeneratedNames = []string{
	"BuildRegion",
	"SourceAMI",
	"SourceAMIName",
	"SourceAMICreationDate",
	"SourceAMIOwner",
	"SourceAMIOwnerName",
}
