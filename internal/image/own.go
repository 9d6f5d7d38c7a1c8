package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// TagCopyOf is on a copy of a base, and says of which, and how it is encrypted.
const TagCopyOf = "immutable:copy-of"

// Copier copies images; satisfied by *ec2.Client.
type Copier interface {
	Deleter
	Untagger
	CopyImage(context.Context, *ec2.CopyImageInput, ...func(*ec2.Options)) (*ec2.CopyImageOutput, error)
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
}

// Owner gives bases that this account can read the blocks of and write
// successors to. The EBS direct APIs do so with an account's own snapshots
// only, and a snapshot's encryption can only change by copying it.
type Owner struct {
	API        Copier
	Region     string
	Account    string
	Encryption Encryption
	Run        cloud.Run
	Say        func(line string)
}

// generations is how many copies of one base are begun at most, if they vanish
// while they are waited for.
const generations = 4

// claim is how long a copy that another build has just begun may take to be
// found by its tag.
const claim = 30 * time.Second

// Own gives the source itself if it is fit, else the copy of it. The copy is
// made once, however many builds want it, and is kept for the next.
func (o Owner) Own(ctx context.Context, source types.Image) (types.Image, error) {
	root, err := Root(source)
	if err != nil {
		return types.Image{}, err
	}
	encrypted := aws.ToBool(root.Encrypted)
	own := aws.ToString(source.OwnerId) == o.Account
	if own {
		fit, err := o.fits(ctx, root)
		if err != nil || fit {
			return source, err
		}
	}
	c := copying{Owner: o, source: source, encrypt: o.Encryption.Result(encrypted)}
	for c.generation = range generations {
		image, err := c.take(ctx)
		if errors.Is(err, errGone) || errors.Is(err, errTaken) {
			continue
		}
		return image, err
	}
	return types.Image{}, fmt.Errorf("copy AMI %s: %d copies vanished while they were waited for; is another program removing AMIs tagged %s?", *source.ImageId, generations, TagCopyOf)
}

// fits says whether a snapshot of this account can be a parent as it is. An
// encrypted one fits an unencrypted wish too: it is read, and then not used as
// parent.
func (o Owner) fits(ctx context.Context, root types.EbsBlockDevice) (bool, error) {
	encrypted := aws.ToBool(root.Encrypted)
	if !o.Encryption.Result(encrypted) {
		return true, nil
	}
	if !encrypted || o.Encryption.Key == "" {
		return encrypted, nil
	}
	out, err := o.API.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*root.SnapshotId}})
	if err != nil {
		return false, fmt.Errorf("look up snapshot %s (ec2:DescribeSnapshots): %w", *root.SnapshotId, err)
	}
	// An alias can't be compared, so that it always leads to a copy.
	is := aws.ToString(out.Snapshots[0].KmsKeyId)
	return is == o.Encryption.Key || strings.HasSuffix(is, ":key/"+o.Encryption.Key), nil
}

var errTaken = errors.New("its name or token is taken")

// copying is the way to one copy.
type copying struct {
	Owner
	source     types.Image
	encrypt    bool
	generation int
}

// tag is the value of TagCopyOf.
func (c copying) tag() string {
	tag := aws.ToString(c.source.ImageId)
	if c.encrypt {
		tag += " encrypted"
		if c.Encryption.Key != "" {
			tag += " " + c.Encryption.Key
		}
	}
	return tag
}

// token is the same in every build that wants this copy, so that AWS makes it
// once even if two begin at the same moment.
func (c copying) token() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", c.Region, c.tag(), c.generation))
	return hex.EncodeToString(sum[:])
}

// take finds the copy or begins it, and waits for it.
func (c copying) take(ctx context.Context) (image types.Image, err error) {
	var l ladder.Ladder
	defer l.BackOn(ctx, &err)

	image, found, err := c.find(ctx)
	if err != nil {
		return image, err
	}
	id := aws.ToString(image.ImageId)
	var born *cloud.Newborn
	if found {
		c.Say(fmt.Sprintf("Base %s (%s) was copied before, as %s", *c.source.ImageId, aws.ToString(c.source.Name), id))
	} else {
		c.Say(fmt.Sprintf("Copying base %s (%s) into this account, once...", *c.source.ImageId, aws.ToString(c.source.Name)))
		id, err = c.begin(ctx)
		if errors.Is(err, errTaken) {
			return c.findWithin(ctx, claim)
		}
		if err != nil {
			return image, err
		}
		born = cloud.Born()
		l.Add("remove the unfinished copy "+id, func(ctx context.Context) error { return c.remove(ctx, id, born) })
	}
	image, err = Wait(ctx, c.API, id, born)
	if err != nil {
		return image, fmt.Errorf("copy base %s: %w", *c.source.ImageId, err)
	}
	if _, unfinished := Tags(image)[cloud.TagExpires]; unfinished {
		if err := Finish(ctx, c.API, append(Snapshots(image), id)...); err != nil {
			return image, err
		}
	}
	l.Keep()
	return image, nil
}

// find looks for the copy by its tag, an available one first, then the oldest.
func (c copying) find(ctx context.Context) (types.Image, bool, error) {
	out, err := c.API.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"},
		Filters: []types.Filter{
			{Name: aws.String("tag:" + TagCopyOf), Values: []string{c.tag()}},
			{Name: aws.String("state"), Values: []string{"available", "pending"}},
		},
	})
	if err != nil {
		return types.Image{}, false, fmt.Errorf("look for a copy of AMI %s (ec2:DescribeImages): %w", *c.source.ImageId, err)
	}
	if len(out.Images) == 0 {
		return types.Image{}, false, nil
	}
	return slices.MinFunc(out.Images, func(a, b types.Image) int {
		return cmp.Or(
			cmp.Compare(a.State, b.State),
			cmp.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate)),
			cmp.Compare(*a.ImageId, *b.ImageId),
		)
	}), true, nil
}

// findWithin waits for a copy that another build has begun to show up, and then
// for its end. If none does, the name and the token are those of one that was
// removed.
func (c copying) findWithin(ctx context.Context, patience time.Duration) (image types.Image, err error) {
	began := time.Now()
	until := cloud.Until{What: "the copy of " + *c.source.ImageId + " that another build began shows up"}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (found bool, _ string, err error) {
		image, found, err = c.find(ctx)
		if err == nil && !found && time.Since(began) >= patience {
			err = errTaken
		}
		return found, "none yet", err
	})
	if err != nil {
		return image, err
	}
	return Wait(ctx, c.API, *image.ImageId, nil)
}

// begin starts the copy. It does not stop half-way at an interrupt: an image
// that nobody knows of could not be removed.
func (c copying) begin(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*cloud.AttemptTimeout)
	defer cancel()
	token := c.token()
	tags := tagList(c.Run.Tags(map[string]string{TagCopyOf: c.tag()}))
	request := &ec2.CopyImageInput{
		SourceImageId: c.source.ImageId,
		SourceRegion:  &c.Region,
		ClientToken:   &token,
		Name:          aws.String(c.name(token)),
		Description:   aws.String("Copy of " + *c.source.ImageId + " as a base of bakes"),
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: tags},
			{ResourceType: types.ResourceTypeSnapshot, Tags: tags},
		},
	}
	if c.encrypt {
		request.Encrypted = aws.Bool(true)
		if c.Encryption.Key != "" {
			request.KmsKeyId = &c.Encryption.Key
		}
	}
	out, err := c.API.CopyImage(ctx, request)
	switch code := cloud.Code(err); {
	// The requests of two builds differ in the tags of their runs.
	case code == "IdempotentParameterMismatch", code == "InvalidAMIName.Duplicate":
		return "", errTaken
	case err != nil:
		return "", fmt.Errorf("copy AMI %s of account %s into this one (ec2:CopyImage): %w; if its owner does not share the snapshot too, it can't be copied: choose another base, or have it shared",
			*c.source.ImageId, aws.ToString(c.source.OwnerId), err)
	}
	return *out.ImageId, nil
}

// name is one that people recognize, and that no other copy has.
func (c copying) name(token string) string {
	original := aws.ToString(c.source.Name)
	return fmt.Sprintf("%s - copy of %s %s", original[:min(len(original), 80)], *c.source.ImageId, token[:8])
}

// remove takes an unfinished copy away, with the snapshots that were begun for
// it: the image itself may not name them yet.
func (c copying) remove(ctx context.Context, id string, born *cloud.Newborn) error {
	image, err := Describe(ctx, c.API, id)
	if missing := (*NotFoundError)(nil); err != nil && !errors.As(err, &missing) {
		return err
	}
	if err := Deregister(ctx, c.API, id, born); err != nil {
		return err
	}
	return errors.Join(DeleteSnapshots(ctx, c.API, image), c.removeSnapshots(ctx))
}

func (c copying) removeSnapshots(ctx context.Context) error {
	out, err := c.API.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"},
		Filters: []types.Filter{
			{Name: aws.String("tag:" + TagCopyOf), Values: []string{c.tag()}},
			{Name: aws.String("tag:" + cloud.TagRun), Values: []string{c.Run.ID}},
		},
	})
	if err != nil {
		return fmt.Errorf("look for the snapshots of the copy (ec2:DescribeSnapshots): %w", err)
	}
	var image types.Image
	for _, s := range out.Snapshots {
		image.BlockDeviceMappings = append(image.BlockDeviceMappings, types.BlockDeviceMapping{Ebs: &types.EbsBlockDevice{SnapshotId: s.SnapshotId}})
	}
	return DeleteSnapshots(ctx, c.API, image)
}
