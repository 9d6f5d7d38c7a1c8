package base

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/snapshot"
)

// fetchAMI finds the AMI, sees to it that this account has it, and brings the
// blocks of its root snapshot into the cache.
func (c Config) fetchAMI(ctx context.Context, ui Ui, wish Wish) (Disk, error) {
	api := ec2.NewFromConfig(wish.AWS)
	source, err := c.Find(ctx, api, ssm.NewFromConfig(wish.AWS), c.Architecture)
	if err != nil {
		return Disk{}, err
	}
	ui.Say(fmt.Sprintf("The base is %s (%s)", aws.ToString(source.ImageId), aws.ToString(source.Name)))
	account, err := cloud.Account(ctx, wish.AWS)
	if err != nil {
		return Disk{}, err
	}
	owner := image.Owner{
		API:        api,
		Region:     wish.AWS.Region,
		Account:    account,
		Encryption: wish.Encryption,
		Run:        wish.Run,
		Say:        ui.Say,
	}
	own, err := owner.Own(ctx, source)
	if err != nil {
		return Disk{}, err
	}
	d := Disk{Source: &source, Image: &own}
	return d, d.download(ctx, ui, wish.AWS, api)
}

// check refuses a base that can't be baked on.
func check(source types.Image, architecture string) error {
	id, name := aws.ToString(source.ImageId), aws.ToString(source.Name)
	if is := string(source.Architecture); is != architecture {
		return fmt.Errorf("the base %s (%s) is for %s, and architecture is %q; choose another base, or set architecture = %q, and bake it where its programs can run", id, name, is, architecture, is)
	}
	if source.State != types.ImageStateAvailable {
		return fmt.Errorf("the base %s (%s) is %s, not available; choose another", id, name, source.State)
	}
	_, err := image.Root(source)
	return err
}

// download fills in the disk from the cache or from AWS.
func (d *Disk) download(ctx context.Context, ui Ui, cfg aws.Config, api snapshot.Keeper) error {
	root, err := image.Root(*d.Image)
	if err != nil {
		return err
	}
	id := *root.SnapshotId
	about, err := snapshot.Describe(ctx, api, id)
	if err != nil {
		return err
	}
	kept, err := cache()
	if err != nil {
		return err
	}
	d.Path, d.Index, err = kept.Snapshot(ctx, ui, snapshot.NewClient(cfg), cfg.Region, id, aws.ToTime(about.StartTime))
	if err != nil {
		return err
	}
	d.Size, err = sizeOf(d.Path)
	return err
}

func sizeOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
