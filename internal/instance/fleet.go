package instance

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

type launcher interface {
	CreateLaunchTemplate(context.Context, *ec2.CreateLaunchTemplateInput, ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateOutput, error)
	DeleteLaunchTemplate(context.Context, *ec2.DeleteLaunchTemplateInput, ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateOutput, error)
	CreateFleet(context.Context, *ec2.CreateFleetInput, ...func(*ec2.Options)) (*ec2.CreateFleetOutput, error)
}

// Launch describes the instance to be.
type Launch struct {
	Image   types.Image
	Types   []string // in the order in which they are tried
	Place   Place
	Spot    bool // try Spot capacity first
	Key     Key
	Groups  []string // security groups
	Profile string   // name of an instance profile, or its ARN
	// PublicAddress is nil to leave it to the subnet.
	PublicAddress *bool
	UserData      []byte
	Root          Root
}

// Root is the root volume, as far as it is not to be like the image's.
type Root struct {
	Size       int32 // GiB
	Type       string
	IOPS       int32
	Throughput int32 // MiB/s
	// Encrypted leaves it to the image and the account if it is nil.
	Encrypted *bool
	Key       string
}

// Launch launches one instance: in the first pool, of a type and a subnet, that
// has capacity. It tells every refusal. The launch template that EC2 Fleet
// wants is removed at once.
func (b Bakery) Launch(ctx context.Context, l Launch) (id string, err error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	interrupted := ctx
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cloud.Visibility+2*cloud.AttemptTimeout)
	defer stop()
	template, err := b.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String(b.name()),
		LaunchTemplateData: b.template(l),
		TagSpecifications:  b.tagged(types.ResourceTypeLaunchTemplate),
		ClientToken:        aws.String(b.token("template")),
	})
	if err != nil {
		return "", fmt.Errorf("make a temporary launch template (ec2:CreateLaunchTemplate): %w", err)
	}
	made := *template.LaunchTemplate.LaunchTemplateId
	born := cloud.Born()
	defer func() {
		undo := vanishing(ctx, born, "it", func(ctx context.Context) error {
			_, err := b.EC2.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: &made})
			return err
		}, "InvalidLaunchTemplateId.NotFound")
		if undo != nil {
			err = errors.Join(err, fmt.Errorf("delete the temporary launch template %s: %w", aws.ToString(template.LaunchTemplate.LaunchTemplateName), undo))
		}
	}()
	markets := []types.DefaultTargetCapacityType{types.DefaultTargetCapacityTypeOnDemand}
	if l.Spot {
		markets = []types.DefaultTargetCapacityType{types.DefaultTargetCapacityTypeSpot, types.DefaultTargetCapacityTypeOnDemand}
	}
	var refusals []string
	for _, market := range markets {
		id, more, err := b.fleet(ctx, interrupted, l, made, born, market)
		if err != nil {
			return "", err
		}
		for _, refusal := range more {
			b.Say("  " + refusal)
		}
		if id != "" {
			return id, nil
		}
		refusals = append(refusals, more...)
	}
	return "", fmt.Errorf("launch an instance: AWS refused every type and subnet:\n  %s\nadd instance_types or subnets, or try again later", strings.Join(refusals, "\n  "))
}

// unseen are the codes by which EC2 refuses a fleet because it does not know yet
// what was made for it.
var unseen = []string{
	"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.VersionNotFound", "InvalidKeyPair.NotFound", "InvalidGroup.NotFound",
}

// fleet asks for one instance in all pools of a market. Born is what was made for
// it last.
func (b Bakery) fleet(ctx, interrupted context.Context, l Launch, template string, born *cloud.Newborn, market types.DefaultTargetCapacityType) (id string, refusals []string, err error) {
	var out *ec2.CreateFleetOutput
	attempt := 0
	err = cloud.Wait(ctx, cloud.Until{What: "what the instance needs can be seen"}, func(ctx context.Context) (bool, string, error) {
		attempt++ // a token is for what it was used with first
		out, err = b.EC2.CreateFleet(ctx, b.fleetRequest(l, template, market, attempt))
		if interrupted.Err() == nil && born.MayAppear() && (slices.Contains(unseen, cloud.Code(err)) || err == nil && anyUnseen(out)) {
			return false, "not yet", nil
		}
		return err == nil, "", err
	})
	if err != nil {
		return "", nil, fmt.Errorf("launch an instance (ec2:CreateFleet): %w", err)
	}
	if !anyUnseen(out) {
		born.Seen()
	}
	for _, refusal := range out.Errors {
		refusals = append(refusals, refused(refusal, market, l.Place))
	}
	for _, i := range out.Instances {
		for _, id := range i.InstanceIds {
			l.Key.born.Seen()
			b.Ladder.Add("terminate instance "+id, func(ctx context.Context) error { return b.Terminate(ctx, id) })
			b.Say(fmt.Sprintf("Launched %s (%s, %s)", id, i.InstanceType, market))
			return id, refusals, nil
		}
	}
	return "", refusals, nil
}

// anyUnseen tells whether there is no instance, and in a pool for that reason.
func anyUnseen(out *ec2.CreateFleetOutput) bool {
	return len(out.Instances) == 0 && slices.ContainsFunc(out.Errors, func(e types.CreateFleetError) bool {
		return slices.Contains(unseen, aws.ToString(e.ErrorCode))
	})
}

func (b Bakery) fleetRequest(l Launch, template string, market types.DefaultTargetCapacityType, attempt int) *ec2.CreateFleetInput {
	var overrides []types.FleetLaunchTemplateOverridesRequest
	for _, kind := range l.Types {
		for _, subnet := range l.Place.Subnets {
			overrides = append(overrides, types.FleetLaunchTemplateOverridesRequest{
				InstanceType: types.InstanceType(kind), SubnetId: subnet.SubnetId, Priority: aws.Float64(float64(len(overrides))),
			})
		}
	}
	return &ec2.CreateFleetInput{
		Type:        types.FleetTypeInstant,
		ClientToken: aws.String(b.token(fmt.Sprintf("%s-%d", market, attempt))),
		TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{
			TotalTargetCapacity: aws.Int32(1), DefaultTargetCapacityType: market,
		},
		OnDemandOptions: &types.OnDemandOptionsRequest{AllocationStrategy: types.FleetOnDemandAllocationStrategyPrioritized},
		SpotOptions:     &types.SpotOptionsRequest{AllocationStrategy: types.SpotAllocationStrategyCapacityOptimizedPrioritized},
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{{
			LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateId: &template, Version: aws.String("$Latest")},
			Overrides:                   overrides,
		}},
		TagSpecifications: b.tagged(types.ResourceTypeFleet),
	}
}

// refused is a refusal with its market, type, subnet and reason, on one line.
func refused(e types.CreateFleetError, market types.DefaultTargetCapacityType, place Place) string {
	kind, where := "?", "?"
	if o := e.LaunchTemplateAndOverrides; o != nil && o.Overrides != nil {
		kind, where = string(o.Overrides.InstanceType), aws.ToString(o.Overrides.SubnetId)
		for _, subnet := range place.Subnets {
			if aws.ToString(subnet.SubnetId) == where {
				where += " (" + aws.ToString(subnet.AvailabilityZone) + ")"
				break
			}
		}
	}
	return fmt.Sprintf("%s, %s in %s: %s: %s", market, kind, where, aws.ToString(e.ErrorCode), aws.ToString(e.ErrorMessage))
}

// template is the launch template: all but type and subnet.
func (b Bakery) template(l Launch) *types.RequestLaunchTemplateData {
	data := &types.RequestLaunchTemplateData{
		ImageId:                           l.Image.ImageId,
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpEndpoint: types.LaunchTemplateInstanceMetadataEndpointStateEnabled,
			HttpTokens:   types.LaunchTemplateHttpTokensStateRequired,
		},
		NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
			DeviceIndex: aws.Int32(0), Groups: l.Groups, AssociatePublicIpAddress: l.PublicAddress, DeleteOnTermination: aws.Bool(true),
		}},
		BlockDeviceMappings: mappings(l),
	}
	if l.Key.Name != "" {
		data.KeyName = &l.Key.Name
	}
	if len(l.UserData) > 0 {
		data.UserData = aws.String(base64.StdEncoding.EncodeToString(l.UserData))
	}
	if strings.HasPrefix(l.Profile, "arn:") {
		data.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Arn: &l.Profile}
	} else if l.Profile != "" {
		data.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: &l.Profile}
	}
	for _, kind := range []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface} {
		data.TagSpecifications = append(data.TagSpecifications, types.LaunchTemplateTagSpecificationRequest{
			ResourceType: kind, Tags: tags.List(b.Run.Tags(b.Tags)),
		})
	}
	return data
}

// provisioned are the volume types whose IOPS can be chosen.
var provisioned = []types.VolumeType{types.VolumeTypeGp3, types.VolumeTypeIo1, types.VolumeTypeIo2}

// mappings are the image's volumes. All of them go with the instance; the root is
// as it is wanted.
func mappings(l Launch) []types.LaunchTemplateBlockDeviceMappingRequest {
	var all []types.LaunchTemplateBlockDeviceMappingRequest
	for _, m := range l.Image.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		ebs := &types.LaunchTemplateEbsBlockDeviceRequest{DeleteOnTermination: aws.Bool(true)}
		if aws.ToString(m.DeviceName) == aws.ToString(l.Image.RootDeviceName) {
			l.Root.apply(ebs, *m.Ebs)
		}
		all = append(all, types.LaunchTemplateBlockDeviceMappingRequest{DeviceName: m.DeviceName, Ebs: ebs})
	}
	return all
}

func (r Root) apply(ebs *types.LaunchTemplateEbsBlockDeviceRequest, base types.EbsBlockDevice) {
	ebs.Encrypted = r.Encrypted
	if r.Key != "" {
		ebs.KmsKeyId = &r.Key
	}
	if size := max(r.Size, aws.ToInt32(base.VolumeSize)); size > 0 {
		ebs.VolumeSize = &size
	}
	ebs.VolumeType = base.VolumeType
	if r.Type != "" && types.VolumeType(r.Type) != base.VolumeType {
		ebs.VolumeType = types.VolumeType(r.Type)
	} else if slices.Contains(provisioned, base.VolumeType) {
		ebs.Iops, ebs.Throughput = base.Iops, base.Throughput
	}
	if r.IOPS != 0 {
		ebs.Iops = &r.IOPS
	}
	if r.Throughput != 0 {
		ebs.Throughput = &r.Throughput
	}
}
