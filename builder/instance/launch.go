package instance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/packer-plugin-sdk/communicator/sshkey"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/instance"
)

// stepLaunch launches the instance, with a key and a security group that are
// made for it unless the user gave others.
type stepLaunch struct{ *build }

func (s *stepLaunch) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.run(ctx); err != nil {
		return base.Fail(state, err)
	}
	state.Put("instance_id", aws.ToString(s.instance.InstanceId))
	return multistep.ActionContinue
}

// Cleanup ends the instance, unless stepImage has already.
func (s *stepLaunch) Cleanup(multistep.StateBag) { s.endMachine() }

func (s *stepLaunch) run(ctx context.Context) error {
	// A retried step has the key, the group and perhaps the instance of the
	// attempt that failed.
	if err := s.machine.Back(ctx); err != nil {
		return fmt.Errorf("remove what the attempt before has made: %w", err)
	}
	s.over = false
	c := s.config
	l := instance.Launch{
		Image: s.base, Types: c.InstanceTypes, Place: s.place, Spot: c.Spot,
		Profile: c.IamInstanceProfile, PublicAddress: c.AssociatePublicIpAddress.ToBoolPointer(), UserData: c.userData,
		Groups: c.SecurityGroupIds, Key: instance.Key{Name: c.Comm.SSHKeyPairName},
	}
	var err error
	if l.Root, err = s.root(); err != nil {
		return err
	}
	if err := s.makeWay(ctx, &l); err != nil {
		return err
	}
	id, err := s.bakery.Launch(ctx, l)
	if err != nil {
		return err
	}
	s.instance = types.Instance{InstanceId: &id}
	return nil
}

// root is what the root volume is to be like.
func (s *stepLaunch) root() (instance.Root, error) {
	was, err := image.Root(s.base)
	if err != nil {
		return instance.Root{}, err
	}
	v := s.config.Volume()
	if v.Size != 0 && v.Size < aws.ToInt32(was.VolumeSize) {
		return instance.Root{}, fmt.Errorf("volume_size is %d GiB, less than the %d GiB of base %s; leave it out or make it larger",
			v.Size, aws.ToInt32(was.VolumeSize), aws.ToString(s.base.ImageId))
	}
	wanted := s.config.Encryption()
	if wanted.Wanted != nil && !*wanted.Wanted {
		if aws.ToBool(was.Encrypted) {
			return instance.Root{}, errors.New("encrypt_boot is false, and the base is encrypted, as then are the volumes that are made from it; leave encrypt_boot out, or choose another base")
		}
		wanted.Wanted = nil // to say so to EC2 is an error where the account encrypts by default
	}
	return instance.Root{Size: v.Size, Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput, Encrypted: wanted.Wanted, Key: wanted.Key}, nil
}

// makeWay makes the key pair and the security group, side by side.
func (s *stepLaunch) makeWay(ctx context.Context, l *instance.Launch) error {
	c := s.config
	if !c.ownKey() {
		pair, err := sshkey.GeneratePair(sshkey.ED25519, rand.Reader, 0)
		if err != nil {
			return fmt.Errorf("make a temporary key: %w", err)
		}
		c.Comm.SSHPrivateKey, c.Comm.SSHPublicKey = pair.Private, pair.Public
	}
	making, ctx := errgroup.WithContext(ctx)
	making.Go(func() (err error) {
		if !c.ownKey() && c.SSHInterface != byConnect {
			l.Key, err = s.bakery.KeyPair(ctx, c.Comm.SSHPublicKey)
			c.Comm.SSHTemporaryKeyPairName = l.Key.Name // by which ssh_clear_authorized_keys finds it
		}
		return err
	})
	making.Go(func() error {
		if len(c.SecurityGroupIds) > 0 {
			return nil
		}
		sources, err := s.sources(ctx)
		if err != nil {
			return err
		}
		id, err := s.bakery.SecurityGroup(ctx, s.place.VPC, int32(c.Comm.Port()), sources)
		l.Groups = []string{id}
		return err
	})
	return making.Wait()
}

// sources are those whom the temporary security group lets in.
func (s *stepLaunch) sources(ctx context.Context) ([]string, error) {
	c := s.config
	if len(c.TemporarySecurityGroupSourceCidrs) > 0 {
		return c.TemporarySecurityGroupSourceCidrs, nil
	}
	if s.public() {
		return []string{"0.0.0.0/0"}, nil
	}
	cidr, err := s.bakery.Range(ctx, s.place.VPC)
	return []string{cidr}, err
}

// public says whether the instance is reached at a public address, as far as
// that can be told before it has one.
func (s *stepLaunch) public() bool {
	switch s.config.SSHInterface {
	case "public_ip", "public_dns":
		return true
	case "private_ip", "private_dns":
		return false
	}
	if asked := s.config.AssociatePublicIpAddress.ToBoolPointer(); asked != nil {
		return *asked
	}
	for _, subnet := range s.place.Subnets {
		if aws.ToBool(subnet.MapPublicIpOnLaunch) {
			return true
		}
	}
	return false
}

// endMachine ends the instance and removes the ways to it. That it can't is no
// reason to let a build fail whose AMI is there.
func (b *build) endMachine() {
	if err := b.machine.Back(context.Background()); err != nil {
		b.ui.Error(fmt.Sprintf("%s; remove it by hand, or with `packer-plugin-immutable sweep` a day from now", err))
	}
}
