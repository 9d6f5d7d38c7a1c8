package ami

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// The tags by which an AMI is found that need not be made again.
const (
	// TagReuseKey is the build's reuse_key.
	TagReuseKey = "immutable:reuse-key"
	// TagBase is the ID of the AMI that it was baked on.
	TagBase = "immutable:base"
)

// StateReused is the artifact's state that tells whether the AMI is an earlier
// build's.
const StateReused = "immutable.reused"

// reuseTags are those of an AMI with the given base.
func (o *Options) reuseTags(baseID string) map[string]string {
	if o.ReuseKey == "" {
		return nil
	}
	key := o.ReuseKey
	if utf8.RuneCountInString(key) > tags.MaxValue {
		sum := sha256.Sum256([]byte(key))
		key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return map[string]string{TagReuseKey: key, TagBase: baseID}
}

func (o *Options) prepareReuse(source Source) []error {
	var errs []error
	if o.ReuseKey != "" && source.Local {
		errs = append(errs, fmt.Errorf("reuse_key is given with source_image, and tells AMIs apart that have an AMI as base; leave one of them out"))
	}
	for _, r := range o.ReuseKey {
		if unicode.IsControl(r) {
			return append(errs, fmt.Errorf("reuse_key has the control character %q, which a tag can't have; put a digest in its place, such as sha256(...)", r))
		}
	}
	return errs
}

// Reused gives the artifact of an earlier build: the youngest available AMI of
// this account with the reuse_key, the base that the source finds now, and the
// architecture. It is nil where there is none. An AMI that a run has not
// finished, or that is deprecated, is none.
func (o *Options) Reused(ctx context.Context, ui Ui, cfg aws.Config, source base.Source, architecture string) (*image.Artifact, error) {
	api := ec2.NewFromConfig(cfg)
	found, err := source.Find(ctx, api, ssm.NewFromConfig(cfg), architecture)
	if err != nil {
		return nil, err
	}
	wanted := o.reuseTags(aws.ToString(found.ImageId))
	made, err := image.Tagged{Tags: wanted, Owners: []string{"self"}, Architecture: architecture}.All(ctx, api)
	if err != nil {
		return nil, fmt.Errorf("look for an AMI with the reuse_key: %w", err)
	}
	made = slices.DeleteFunc(made, func(i types.Image) bool { return image.Finished(i) != nil || deprecated(i) })
	if len(made) == 0 {
		return nil, nil
	}
	reused := image.Youngest(made)
	ui.Say(fmt.Sprintf("AMI %s (%s) of %s has the reuse_key and the base %s: it is used again, and nothing is baked (-force bakes anyway)",
		aws.ToString(reused.ImageId), aws.ToString(reused.Name), aws.ToString(reused.CreationDate), wanted[TagBase]))
	return &image.Artifact{
		AMIs:  map[string]string{cfg.Region: aws.ToString(reused.ImageId)},
		Found: true,
		Data: map[string]any{
			"generated_data": (base.Disk{Source: &found}).Generated(cfg.Region),
			StateReused:      true,
		},
		// It is not of this build, and may be running.
		Delete: func(context.Context, string, string) error { return nil },
	}, nil
}

func deprecated(i types.Image) bool {
	at, err := time.Parse(time.RFC3339, aws.ToString(i.DeprecationTime))
	return err == nil && !at.After(time.Now())
}
