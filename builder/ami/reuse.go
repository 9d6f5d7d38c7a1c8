package ami

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
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

// Reusing says that an AMI is used again where one is made of the same.
func (o *Options) Reusing() bool { return o.ReuseKey != "" || len(o.ReuseFiles) > 0 }

// ReadReuseFiles makes one key of reuse_key and of what is in reuse_files. It is
// called when the build begins: the files may be made after the validation.
func (o *Options) ReadReuseFiles() error {
	o.key = o.ReuseKey
	if utf8.RuneCountInString(o.key) <= tags.MaxValue && len(o.ReuseFiles) == 0 {
		return nil
	}
	all := sha256.New()
	_, _ = io.WriteString(all, o.ReuseKey) // a hash takes everything
	for _, path := range o.ReuseFiles {
		sum, err := digest(path)
		if err != nil {
			return fmt.Errorf("reuse_files: %w; name files that are there when the build begins", err)
		}
		_, _ = all.Write(sum)
	}
	o.key = "sha256:" + hex.EncodeToString(all.Sum(nil))
	return nil
}

func digest(path string) (sum []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return hash.Sum(nil), err
}

// reuseTags are those of an AMI with the given base.
func (o *Options) reuseTags(baseID string) map[string]string {
	if !o.Reusing() {
		return nil
	}
	return map[string]string{TagReuseKey: o.key, TagBase: baseID}
}

func (o *Options) prepareReuse(source Source) []error {
	var errs []error
	if o.Reusing() && source.Local {
		errs = append(errs, errors.New("reuse_key or reuse_files is given with source_image, and they tell AMIs apart that have an AMI as base; leave one of them out"))
	}
	for _, r := range o.ReuseKey {
		if unicode.IsControl(r) {
			return append(errs, fmt.Errorf("reuse_key has the control character %q, which a tag can't have; put a digest in its place, such as sha256(...)", r))
		}
	}
	return errs
}

// Reused gives the artifact of an earlier build, once ReadReuseFiles has made the
// key: the youngest available AMI of this account with it, the base that the
// source finds now, and the architecture. It is nil where there is none. An AMI
// that a run has not finished, or that is deprecated, is none.
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
	ui.Say(fmt.Sprintf("AMI %s (%s) of %s has the same reuse_key and reuse_files, and the base %s: it is used again, and nothing is baked (-force bakes anyway)",
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
