package sweep

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

type remover interface {
	image.Deleter
	TerminateInstances(context.Context, *ec2.TerminateInstancesInput, ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error)
	DeleteVolume(context.Context, *ec2.DeleteVolumeInput, ...func(*ec2.Options)) (*ec2.DeleteVolumeOutput, error)
	DeleteKeyPair(context.Context, *ec2.DeleteKeyPairInput, ...func(*ec2.Options)) (*ec2.DeleteKeyPairOutput, error)
	DeleteSecurityGroup(context.Context, *ec2.DeleteSecurityGroupInput, ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error)
	DeleteLaunchTemplate(context.Context, *ec2.DeleteLaunchTemplateInput, ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateOutput, error)
}

// The kinds of leftovers, by EC2's names of resource types; Version has none.
const (
	Instance       = "instance"
	Image          = "image"
	Snapshot       = "snapshot"
	Volume         = "volume"
	KeyPair        = "key-pair"
	SecurityGroup  = "security-group"
	LaunchTemplate = "launch-template"
	Version        = "launch-template-version"
)

// kinds is the order of removal: what uses another goes before it. A launch
// template may go first, because nothing that it launched needs it.
var kinds = []string{LaunchTemplate, Version, Instance, Volume, Image, Snapshot, KeyPair, SecurityGroup}

func order(kind string) int { return slices.Index(kinds, kind) }

func (s Sweep) remove(ctx context.Context, l Leftover) error {
	var err error
	switch l.Kind {
	case Instance:
		return s.terminate(ctx, l.ID)
	case Image:
		// Whoever runs an unfinished image has a use for it all the same.
		if err := image.Unused(ctx, s.EC2, l.ID); err != nil {
			return err
		}
		return image.Deregister(ctx, s.EC2, l.ID, nil)
	case Version:
		return s.deleteVersion(ctx, l.ID)
	case Snapshot:
		return s.retry(ctx, l, func(ctx context.Context) error {
			_, err := s.EC2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &l.ID})
			return err
		})
	case Volume:
		return s.retry(ctx, l, func(ctx context.Context) error {
			_, err := s.EC2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &l.ID})
			return err
		})
	case SecurityGroup:
		return s.retry(ctx, l, func(ctx context.Context) error {
			_, err := s.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &l.ID})
			return err
		})
	case KeyPair:
		_, err = s.EC2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyPairId: &l.ID})
	case LaunchTemplate:
		_, err = s.EC2.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: &l.ID})
	default:
		return fmt.Errorf("a %s is nothing that a build leaves behind", l.Kind)
	}
	return unlessGone(err)
}

// gone are the codes that say that there is nothing left to remove.
var gone = []string{
	"InvalidInstanceID.NotFound", "InvalidSnapshot.NotFound", "InvalidVolume.NotFound", "InvalidKeyPair.NotFound",
	"InvalidGroup.NotFound", "InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.VersionNotFound",
}

func unlessGone(err error) error {
	if slices.Contains(gone, cloud.Code(err)) {
		return nil
	}
	return err
}

// terminate ends an instance and waits: until it is gone its volumes and groups
// are in use.
func (s Sweep) terminate(ctx context.Context, id string) error {
	_, err := s.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return unlessGone(err)
	}
	return cloud.Wait(ctx, cloud.Until{What: id + " is terminated", Deadline: 10 * time.Minute}, func(ctx context.Context) (bool, string, error) {
		states, err := s.states(ctx, []string{id})
		state, there := states[id]
		return !there || state == types.InstanceStateNameTerminated, string(state), err
	})
}

// inUse are the codes of what something else still uses.
var inUse = []string{"InvalidSnapshot.InUse", "VolumeInUse", "DependencyViolation"}

// lingering is how long EC2 may take to see that the user of a resource is no
// more.
const lingering = 30 * time.Second

func (s Sweep) retry(ctx context.Context, l Leftover, remove func(context.Context) error) error {
	began := time.Now()
	return cloud.Wait(ctx, cloud.Until{What: l.Kind + " " + l.ID + " is removed"}, func(ctx context.Context) (bool, string, error) {
		err := unlessGone(remove(ctx))
		if slices.Contains(inUse, cloud.Code(err)) && time.Since(began) < lingering {
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
}
