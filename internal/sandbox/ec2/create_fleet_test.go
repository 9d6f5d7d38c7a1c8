package ec2

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// instant asks for instances from the launch template "hello", in pools.
func instant(total int32, lifecycle types.DefaultTargetCapacityType, pools ...types.FleetLaunchTemplateOverridesRequest) *ec2.CreateFleetInput {
	return &ec2.CreateFleetInput{
		Type: types.FleetTypeInstant,
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{{
			LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateName: aws.String("hello"), Version: aws.String("$Latest")},
			Overrides:                   pools,
		}},
		TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{TotalTargetCapacity: &total, DefaultTargetCapacityType: lifecycle},
	}
}

func ofType(kind types.InstanceType, zone string) types.FleetLaunchTemplateOverridesRequest {
	return types.FleetLaunchTemplateOverridesRequest{InstanceType: kind, AvailabilityZone: aws.String(zone)}
}

func (w *world) createFleet(in *ec2.CreateFleetInput) *ec2.CreateFleetOutput {
	w.Helper()
	out, err := w.CreateFleet(w.Context(), in)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// launched tells what a fleet launched: the types and zones with the number of
// instances.
func launched(out *ec2.CreateFleetOutput) []string {
	var all []string
	for _, l := range out.Instances {
		all = append(all, strings.Join([]string{string(l.Lifecycle), string(l.InstanceType), *l.AvailabilityZone, strings.Repeat("i", len(l.InstanceIds))}, " "))
	}
	return all
}

func (w *world) shortages(rules ...Shortage) {
	w.Helper()
	if err := w.service.SetShortages("eu-west-1", rules...); err != nil {
		w.Fatal(err)
	}
}

func TestFleetAllocates(t *testing.T) {
	w := newWorld(t)
	w.template("hello", &types.RequestLaunchTemplateData{ImageId: aws.String(w.image("hello")), InstanceType: types.InstanceTypeM5Large})
	pools := []types.FleetLaunchTemplateOverridesRequest{
		ofType(types.InstanceTypeC5Large, "eu-west-1a"), ofType(types.InstanceTypeT3Micro, "eu-west-1b"), ofType(types.InstanceTypeT3Micro, "eu-west-1a"),
	}
	for i, priority := range []float64{2, 1, 0} {
		pools[i].Priority = &priority
	}
	onDemand, spot := types.DefaultTargetCapacityTypeOnDemand, types.DefaultTargetCapacityTypeSpot
	for name, test := range map[string]struct {
		in     *ec2.CreateFleetInput
		change func(*ec2.CreateFleetInput)
		rules  []Shortage
		want   []string
	}{
		"the cheapest first": {instant(2, onDemand, pools...), func(*ec2.CreateFleetInput) {}, nil, []string{"on-demand t3.micro eu-west-1b ii"}},
		"by priority": {instant(1, onDemand, pools...), func(in *ec2.CreateFleetInput) {
			in.OnDemandOptions = &types.OnDemandOptionsRequest{AllocationStrategy: types.FleetOnDemandAllocationStrategyPrioritized}
		}, nil, []string{"on-demand t3.micro eu-west-1a i"}},
		"Spot in the order of the request": {instant(1, spot, pools...), func(in *ec2.CreateFleetInput) {
			in.SpotOptions = &types.SpotOptionsRequest{AllocationStrategy: types.SpotAllocationStrategyCapacityOptimized}
		}, nil, []string{"spot c5.large eu-west-1a i"}},
		"diversified": {instant(4, spot, pools...), func(in *ec2.CreateFleetInput) {
			in.SpotOptions = &types.SpotOptionsRequest{AllocationStrategy: types.SpotAllocationStrategyDiversified}
		}, nil, []string{"spot c5.large eu-west-1a ii", "spot t3.micro eu-west-1b i", "spot t3.micro eu-west-1a i"}},
		"over two pools": {instant(4, spot, pools...), func(in *ec2.CreateFleetInput) {
			in.SpotOptions = &types.SpotOptionsRequest{InstancePoolsToUseCount: aws.Int32(2)}
		}, nil, []string{"spot t3.micro eu-west-1b ii", "spot t3.micro eu-west-1a ii"}},
		"some of each": {instant(3, onDemand, pools...), func(in *ec2.CreateFleetInput) { in.TargetCapacitySpecification.SpotTargetCapacity = aws.Int32(1) },
			nil, []string{"spot t3.micro eu-west-1b i", "on-demand t3.micro eu-west-1b ii"}},
		"the template's type": {instant(1, onDemand, types.FleetLaunchTemplateOverridesRequest{AvailabilityZone: aws.String("eu-west-1a")}), func(*ec2.CreateFleetInput) {}, nil, []string{"on-demand m5.large eu-west-1a i"}},
		"what is left elsewhere": {instant(3, onDemand, pools...), func(*ec2.CreateFleetInput) {},
			[]Shortage{{Zone: "eu-west-1b", Room: 2}}, []string{"on-demand t3.micro eu-west-1b ii", "on-demand t3.micro eu-west-1a i"}},
		"a single type": {instant(3, onDemand, pools...), func(in *ec2.CreateFleetInput) {
			in.OnDemandOptions = &types.OnDemandOptionsRequest{SingleInstanceType: aws.Bool(true), MinTargetCapacity: aws.Int32(3)}
		}, []Shortage{{InstanceType: "t3.*", Zone: "eu-west-1b"}, {InstanceType: "t3.*", Room: 1}}, []string{"on-demand c5.large eu-west-1a iii"}},
		"a minimum that is not reached": {instant(3, onDemand, pools...), func(in *ec2.CreateFleetInput) {
			in.OnDemandOptions = &types.OnDemandOptionsRequest{SingleInstanceType: aws.Bool(true), MinTargetCapacity: aws.Int32(3)}
		}, []Shortage{{Room: 1}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w.shortages(test.rules...)
			test.change(test.in)
			out := w.createFleet(test.in)
			if got := launched(out); !slices.Equal(got, test.want) {
				t.Errorf("launched %q, want %q; errors %+v", got, test.want, out.Errors)
			}
		})
	}
}

func TestFleetTellsWhyPoolsFail(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	id := w.template("hello", &types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT3Micro})
	w.shortages(
		Shortage{InstanceType: "t3.micro", Zone: "eu-west-1a", Code: Unsupported},
		Shortage{InstanceType: "t3.micro", Zone: "eu-west-1b"},
	)
	wrong := ofType(types.InstanceTypeM5Large, "eu-west-1a")
	wrong.ImageId = aws.String("ami-00000000000000000")
	in := instant(1, types.DefaultTargetCapacityTypeOnDemand,
		ofType(types.InstanceTypeT3Micro, "eu-west-1a"), ofType(types.InstanceTypeT3Micro, "eu-west-1b"), wrong, ofType(types.InstanceTypeM5Large, "eu-west-1c"))
	out := w.createFleet(in)
	if got, want := launched(out), []string{"on-demand m5.large eu-west-1c i"}; !slices.Equal(got, want) {
		t.Errorf("launched %q, want %q", got, want)
	}
	var got []string
	for _, e := range out.Errors {
		got = append(got, *e.ErrorCode+": "+*e.ErrorMessage)
	}
	want := []string{
		"InvalidFleetConfiguration: Your requested instance type (t3.micro) is not supported in your requested Availability Zone (eu-west-1a). Please retry your request by not specifying an Availability Zone or choosing eu-west-1b, eu-west-1c.",
		"InsufficientInstanceCapacity: We currently do not have sufficient t3.micro capacity in the Availability Zone you requested (eu-west-1b). Our system will be working on provisioning additional capacity. You can currently get t3.micro capacity by not specifying an Availability Zone in your request or choosing eu-west-1c.",
		"InvalidAMIID.NotFound: The image id '[ami-00000000000000000]' does not exist",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the errors are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	named := out.Errors[1].LaunchTemplateAndOverrides
	if *named.LaunchTemplateSpecification.LaunchTemplateId != id || *named.LaunchTemplateSpecification.Version != "1" || *named.Overrides.AvailabilityZone != "eu-west-1b" {
		t.Errorf("the second error names %+v and %+v", named.LaunchTemplateSpecification, named.Overrides)
	}
}

func TestFleetLaunchesSpotAsTheAmazonPluginAsks(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	empty := ""
	data := &types.RequestLaunchTemplateData{
		ImageId: &image, DisableApiTermination: aws.Bool(false), EbsOptimized: aws.Bool(false),
		IamInstanceProfile:    &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: &empty},
		Placement:             &types.LaunchTemplatePlacementRequest{AvailabilityZone: &empty},
		InstanceMarketOptions: &types.LaunchTemplateInstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot, SpotOptions: &types.LaunchTemplateSpotMarketOptionsRequest{MaxPrice: aws.String("0.02")}},
		TagSpecifications:     []types.LaunchTemplateTagSpecificationRequest{{ResourceType: types.ResourceTypeInstance, Tags: specify("", "Name", "built").Tags}},
	}
	w.template("hello", data)
	in := instant(1, types.DefaultTargetCapacityTypeSpot, types.FleetLaunchTemplateOverridesRequest{InstanceType: types.InstanceTypeT3Small})
	in.ReplaceUnhealthyInstances = aws.Bool(false)
	in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeFleet, "a", "fleet"), specify(types.ResourceTypeInstance, "b", "instance"), specify(types.ResourceTypeVolume, "c", "volume")}
	out := w.createFleet(in)
	i := w.describeInstance(out.Instances[0].InstanceIds[0])
	if i.InstanceLifecycle != types.InstanceLifecycleTypeSpot || !strings.HasPrefix(aws.ToString(i.SpotInstanceRequestId), "sir-") || i.IamInstanceProfile != nil {
		t.Errorf("launched %s of the request %s with the profile %v", i.InstanceLifecycle, aws.ToString(i.SpotInstanceRequestId), i.IamInstanceProfile)
	}
	for key, want := range map[string]string{"Name": "built", "b": "instance", "aws:ec2:fleet-id": *out.FleetId} {
		if got := tagOf(i.Tags, key); got != want {
			t.Errorf("the instance's tag %s is %s, want %s", key, got, want)
		}
	}
	for _, id := range []string{*i.SpotInstanceRequestId, *out.FleetId} {
		if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: specify("", "d", id).Tags}); err != nil {
			t.Errorf("tag %s: %v", id, err)
		}
		tags, err := w.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{id}}, {Name: aws.String("key"), Values: []string{"d"}}}})
		if err != nil || len(tags.Tags) != 1 {
			t.Errorf("%s has the tags %v, %v", id, tags.Tags, err)
		}
	}
	w.untilRunning(*i.InstanceId)
	_, err := w.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{*i.InstanceId}})
	refused(t, err, "UnsupportedOperation")
}

func TestFleetIsLaunchedOnce(t *testing.T) {
	w := newWorld(t)
	w.template("hello", &types.RequestLaunchTemplateData{ImageId: aws.String(w.image("hello")), InstanceType: types.InstanceTypeT3Micro})
	in := instant(1, types.DefaultTargetCapacityTypeOnDemand)
	in.ClientToken = aws.String("once")
	first, second := w.createFleet(in), w.createFleet(in)
	if *first.FleetId != *second.FleetId || first.Instances[0].InstanceIds[0] != second.Instances[0].InstanceIds[0] {
		t.Errorf("the same token launched %+v and then %+v", first, second)
	}
	in.TargetCapacitySpecification.TotalTargetCapacity = aws.Int32(2)
	_, err := w.CreateFleet(t.Context(), in)
	refused(t, err, "IdempotentParameterMismatch")
}

func TestCreateFleetRefuses(t *testing.T) {
	w := newWorld(t)
	w.template("hello", &types.RequestLaunchTemplateData{ImageId: aws.String(w.image("hello")), InstanceType: types.InstanceTypeT3Micro})
	for name, test := range map[string]struct {
		change func(*ec2.CreateFleetInput)
		code   string
	}{
		"another type": {func(in *ec2.CreateFleetInput) { in.Type = types.FleetTypeRequest }, "UnsupportedOperation"},
		"no type":      {func(in *ec2.CreateFleetInput) { in.Type = "" }, "UnsupportedOperation"},
		"no such template": {func(in *ec2.CreateFleetInput) {
			in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.LaunchTemplateName = aws.String("bye")
		}, "InvalidLaunchTemplateName.NotFoundException"},
		"no such version": {func(in *ec2.CreateFleetInput) {
			in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.Version = aws.String("7")
		}, "InvalidLaunchTemplateId.VersionNotFound"},
		"no version":          {func(in *ec2.CreateFleetInput) { in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.Version = nil }, "MissingParameter"},
		"no capacity":         {func(in *ec2.CreateFleetInput) { in.TargetCapacitySpecification.TotalTargetCapacity = aws.Int32(0) }, "InvalidParameterValue"},
		"more than the total": {func(in *ec2.CreateFleetInput) { in.TargetCapacitySpecification.SpotTargetCapacity = aws.Int32(2) }, "InvalidTargetCapacitySpecification"},
		"weights": {func(in *ec2.CreateFleetInput) {
			in.LaunchTemplateConfigs[0].Overrides[0].WeightedCapacity = aws.Float64(2)
		}, "UnknownParameter"},
		"half a priority": {func(in *ec2.CreateFleetInput) { in.LaunchTemplateConfigs[0].Overrides[0].Priority = aws.Float64(0.5) }, "InvalidParameterValue"},
		"a price of nothing": {func(in *ec2.CreateFleetInput) {
			in.LaunchTemplateConfigs[0].Overrides[0].MaxPrice = aws.String("0.0001")
		}, "InvalidParameterValue"},
		"two zones": {func(in *ec2.CreateFleetInput) {
			in.LaunchTemplateConfigs[0].Overrides[0].AvailabilityZoneId = aws.String("euw1-az1")
		}, "InvalidParameterCombination"},
		"an On-Demand strategy": {func(in *ec2.CreateFleetInput) {
			in.OnDemandOptions = &types.OnDemandOptionsRequest{AllocationStrategy: "diversified"}
		}, "InvalidParameterValue"},
		"a minimum of anything": {func(in *ec2.CreateFleetInput) {
			in.SpotOptions = &types.SpotOptionsRequest{MinTargetCapacity: aws.Int32(1)}
		}, "InvalidParameterCombination"},
		"pools of another strategy": {func(in *ec2.CreateFleetInput) {
			in.SpotOptions = &types.SpotOptionsRequest{AllocationStrategy: types.SpotAllocationStrategyDiversified, InstancePoolsToUseCount: aws.Int32(1)}
		}, "InvalidParameterCombination"},
		"what maintained fleets have": {func(in *ec2.CreateFleetInput) { in.ReplaceUnhealthyInstances = aws.Bool(true) }, "InvalidParameterCombination"},
		"tags on images": {func(in *ec2.CreateFleetInput) {
			in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeImage, "a", "b")}
		}, "InvalidParameterValue"},
		"a long token": {func(in *ec2.CreateFleetInput) { in.ClientToken = aws.String(strings.Repeat("x", 65)) }, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			in := instant(1, types.DefaultTargetCapacityTypeOnDemand, ofType(types.InstanceTypeT3Micro, "eu-west-1a"))
			test.change(in)
			_, err := w.CreateFleet(t.Context(), in)
			refused(t, err, test.code)
		})
	}
}
