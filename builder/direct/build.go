package direct

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// build is what the steps of one build have in common.
type build struct {
	config *Config
	ui     packersdk.Ui
	work   *base.Work

	ec2 *ec2.Client
	ebs *ebs.Client

	// begun is what was created in AWS and is not finished yet.
	begun ladder.Ladder
	// ended says that what was begun is undone or kept, and err with which
	// error the build ended.
	ended bool
	err   error

	name     ami.Name
	texts    ami.Texts
	changed  []blocks.Block
	onDisk   int // blocks of the disk that hold data
	uploaded int // blocks that AWS has taken
	snapshot string
	ami      string
	born     *cloud.Newborn // the AMI
}

// result is the error that the build ended with. It is asked for when what was
// begun is undone or kept, and after: an interrupt in between must not make a
// build fail whose AMI was kept.
func (b *build) result(state multistep.StateBag) error {
	if b.ended {
		return b.err
	}
	return base.Result(state)
}

// stages are those of a build, in their order.
var stages = []string{"base", "copy", "bake", "scan", "upload", "complete", "register"}

// timing is how long each stage took, as a line.
func (b *build) timing() string {
	var parts []string
	for _, stage := range stages {
		parts = append(parts, fmt.Sprintf("%s %.2f s", stage, b.work.Took.Of(stage).Seconds()))
	}
	return "Stages: " + strings.Join(parts, ", ")
}

// stats are the figures of the build, for those who compare builds.
func (b *build) stats() map[string]any {
	stats := map[string]any{
		"blocks_on_disk":  b.onDisk,
		"blocks_changed":  len(b.changed),
		"blocks_uploaded": b.uploaded,
		"bytes_uploaded":  b.uploaded * blocks.Size,
	}
	for _, stage := range stages {
		stats["seconds_"+stage] = b.work.Took.Of(stage).Seconds()
	}
	return stats
}
