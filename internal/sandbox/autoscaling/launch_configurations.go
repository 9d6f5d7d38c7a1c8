package autoscaling

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// launchConfiguration is what launch templates have replaced. It is here so that
// a group can be on one.
type launchConfiguration struct {
	LaunchConfigurationName string
	LaunchConfigurationARN  string
	ImageId                 string
	InstanceType            string
	CreatedTime             time.Time
	SecurityGroups          []string
	BlockDeviceMappings     []struct{}
}

type createLaunchConfigurationInput struct {
	LaunchConfigurationName string `wire:",,required"`
	ImageId                 string `wire:",,required"`
	InstanceType            string `wire:",,required"`
}

// createLaunchConfiguration is not for accounts that were created from
// 2024-10-01 on (https://docs.aws.amazon.com/autoscaling/ec2/userguide/launch-configurations.html),
// unless Options say otherwise.
func (s *Service) createLaunchConfiguration(_ context.Context, c *api.Call, in *createLaunchConfigurationInput) (*succeeded, error) {
	arn := c.ARN("launchConfiguration:" + api.NewUUID() + ":launchConfigurationName/" + in.LaunchConfigurationName)
	c.On(arn)
	if !s.options.LaunchConfigurations {
		return nil, wire.Errorf("UnsupportedOperation", "The Launch Configuration creation operation is not available in your account. Use launch templates to create configuration templates for your Auto Scaling groups.")
	}
	r := s.in(c.Region)
	if _, ok := r.LaunchConfigurations[in.LaunchConfigurationName]; ok {
		return nil, wire.Errorf("AlreadyExists", "Launch Configuration by this name already exists - A launch configuration already exists with the name %s", in.LaunchConfigurationName)
	}
	r.LaunchConfigurations[in.LaunchConfigurationName] = &launchConfiguration{
		LaunchConfigurationName: in.LaunchConfigurationName,
		LaunchConfigurationARN:  arn,
		ImageId:                 in.ImageId,
		InstanceType:            in.InstanceType,
		CreatedTime:             c.Now,
		SecurityGroups:          []string{},
		BlockDeviceMappings:     []struct{}{},
	}
	return &succeeded{}, nil
}

type describeLaunchConfigurationsInput struct {
	paging
	LaunchConfigurationNames []string
}

type describeLaunchConfigurationsOutput struct {
	LaunchConfigurations []launchConfiguration
	NextToken            string
}

func (s *Service) describeLaunchConfigurations(_ context.Context, c *api.Call, in *describeLaunchConfigurationsInput) (*describeLaunchConfigurationsOutput, error) {
	r := s.in(c.Region)
	var all []launchConfiguration
	for _, name := range slices.Sorted(maps.Keys(r.LaunchConfigurations)) {
		if len(in.LaunchConfigurationNames) == 0 || slices.Contains(in.LaunchConfigurationNames, name) {
			all = append(all, *r.LaunchConfigurations[name])
		}
	}
	all, token, err := cut(all, in.paging, 50, 100, func(l launchConfiguration) string { return l.LaunchConfigurationName })
	if err != nil {
		return nil, err
	}
	return &describeLaunchConfigurationsOutput{all, token}, nil
}

type deleteLaunchConfigurationInput struct {
	LaunchConfigurationName string `wire:",,required"`
}

func (s *Service) deleteLaunchConfiguration(_ context.Context, c *api.Call, in *deleteLaunchConfigurationInput) (*succeeded, error) {
	r, name := s.in(c.Region), in.LaunchConfigurationName
	l, ok := r.LaunchConfigurations[name]
	if !ok {
		return nil, invalid("Launch configuration name not found - Launch configuration %s not found", name)
	}
	c.On(l.LaunchConfigurationARN)
	for _, g := range r.Groups {
		if g.Saved.LaunchConfiguration == name {
			return nil, wire.Errorf("ResourceInUse", "Cannot delete launch configuration %s because it is attached to AutoScalingGroup %s", name, g.Name)
		}
	}
	delete(r.LaunchConfigurations, name)
	return &succeeded{}, nil
}
