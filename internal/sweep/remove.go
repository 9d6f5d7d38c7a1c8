package sweep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

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

// Remove removes leftovers that Find has found, and notes in each how that
// ended. What has been finished since, or taken over by somebody, is left; an
// error does not keep it from the rest.
func (s Sweep) Remove(ctx context.Context, leftovers []Leftover) error {
	var errs []error
	for _, kind := range kinds {
		var of []*Leftover
		for i := range leftovers {
			if leftovers[i].Kind == kind {
				of = append(of, &leftovers[i])
			}
		}
		if len(of) > 0 {
			errs = append(errs, s.removeAll(ctx, kind, of)...)
		}
	}
	return errors.Join(errs...)
}

// removeAll removes leftovers of one kind. Right before it looks again whether
// they are still that: the removal of others may have taken minutes.
func (s Sweep) removeAll(ctx context.Context, kind string, of []*Leftover) (errs []error) {
	look := s.tagged
	if kind == Version {
		look = s.versions
	}
	still, err := look(ctx)
	if err != nil {
		for _, l := range of {
			l.Kept = err.Error()
		}
		return []error{err}
	}
	of = slices.DeleteFunc(of, func(l *Leftover) bool {
		there := slices.ContainsFunc(still, func(s Leftover) bool { return s.ID == l.ID })
		if !there {
			l.Kept = "it has been finished or removed meanwhile"
		}
		return !there
	})
	outcome := func(l *Leftover, err error) {
		l.Removed = err == nil
		if err != nil {
			l.Kept = err.Error()
			errs = append(errs, fmt.Errorf("remove %s: %w", l, err))
		}
	}
	if kind == Instance {
		s.terminate(ctx, of, outcome)
		return errs
	}
	began := time.Now()
	for _, l := range of {
		outcome(l, s.remove(ctx, *l, began))
	}
	return errs
}

// remove removes what is no instance. Began is when the removal of this kind has.
func (s Sweep) remove(ctx context.Context, l Leftover, began time.Time) error {
	var err error
	switch l.Kind {
	case Image:
		// Whoever runs an unfinished image has a use for it all the same.
		if err := image.Unused(ctx, s.EC2, l.ID); err != nil {
			return err
		}
		return image.Deregister(ctx, s.EC2, l.ID, nil)
	case Version:
		return s.deleteVersion(ctx, l.ID)
	case Snapshot:
		return s.retry(ctx, l, began, func(ctx context.Context) error {
			_, err := s.EC2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &l.ID})
			return err
		})
	case Volume:
		return s.retry(ctx, l, began, func(ctx context.Context) error {
			_, err := s.EC2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &l.ID})
			return err
		})
	case SecurityGroup:
		return s.retry(ctx, l, began, func(ctx context.Context) error {
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

// terminate ends instances and waits for all of them at once: until one is gone
// its volumes and groups are in use.
func (s Sweep) terminate(ctx context.Context, all []*Leftover, outcome func(*Leftover, error)) {
	ending := map[string]*Leftover{}
	for _, l := range all {
		_, err := s.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{l.ID}})
		if err := unlessGone(err); err != nil {
			outcome(l, err)
			continue
		}
		ending[l.ID] = l
	}
	err := cloud.Wait(ctx, cloud.Until{What: "what was terminated is gone", Deadline: 10 * time.Minute}, func(ctx context.Context) (bool, string, error) {
		gone, err := s.terminated(ctx, slices.Collect(maps.Keys(ending)))
		for id, is := range gone {
			if is {
				outcome(ending[id], nil)
				delete(ending, id)
			}
		}
		return len(ending) == 0, "they are shutting down", err
	})
	for _, l := range ending {
		outcome(l, err)
	}
}

// inUse are the codes of what something else still uses.
var inUse = []string{"InvalidSnapshot.InUse", "VolumeInUse", "DependencyViolation"}

// lingering is how long EC2 may take to see that the user of a resource is no
// more.
const lingering = 30 * time.Second

// retry removes what may seem to be in use for a while behind the removal of
// those that used it.
func (s Sweep) retry(ctx context.Context, l Leftover, began time.Time, remove func(context.Context) error) error {
	return cloud.Wait(ctx, cloud.Until{What: l.Kind + " " + l.ID + " is removed"}, func(ctx context.Context) (bool, string, error) {
		err := unlessGone(remove(ctx))
		if slices.Contains(inUse, cloud.Code(err)) && time.Since(began) < lingering {
			return false, err.Error(), nil
		}
		return err == nil, "", err
	})
}
