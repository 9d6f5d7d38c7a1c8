package ec2

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// fleetRequest is an EC2 Fleet of the type instant: a request that was carried
// out once, of which only the tags go on.
type fleetRequest struct{ resource }

func (r *region) fleet(id string) (*resource, error) {
	if found := r.Fleets[id]; found != nil {
		return found.base(), nil
	}
	return nil, fail("InvalidFleetId.NotFound", "The fleet ID '%s' does not exist", id)
}

// createFleetInput asks for instances in the pools that its configurations
// name. What fleets of the other types have and those of the type instant don't
// is taken where it says nothing.
type createFleetInput struct {
	ClientToken                      string
	ExcessCapacityTerminationPolicy  string
	LaunchTemplateConfigs            []fleetConfig `wire:",,required"`
	OnDemandOptions                  fleetOptions
	ReplaceUnhealthyInstances        bool
	SpotOptions                      fleetSpotOptions
	TagSpecifications                []tagSpecification `wire:"TagSpecification"`
	TargetCapacitySpecification      targetCapacity     `wire:",,required"`
	TerminateInstancesWithExpiration bool
	Type                             string
	ValidFrom, ValidUntil            *time.Time
}

type fleetConfig struct {
	LaunchTemplateSpecification *fleetTemplate
	Overrides                   []fleetOverride
}

type fleetTemplate struct {
	launchTemplateRef
	LaunchTemplateSpecificationUserData string
	Version                             string
}

// fleetOverride is what one pool has in the place of the launch template's.
type fleetOverride struct {
	AvailabilityZone    string
	AvailabilityZoneId  string
	BlockDeviceMappings []blockDevice `wire:"BlockDeviceMapping,blockDeviceMappingSet"`
	IamInstanceProfile  *iamInstanceProfile
	ImageId             string
	InstanceType        string
	KeyName             string
	MaxPrice            string
	MetadataOptions     *metadataOptions
	Placement           *placement
	Priority            *float64
	SubnetId            string
}

// fleetOptions are the options of one way of buying.
type fleetOptions struct {
	AllocationStrategy     string
	MinTargetCapacity      *int
	SingleAvailabilityZone bool
	SingleInstanceType     bool
}

type fleetSpotOptions struct {
	fleetOptions
	InstanceInterruptionBehavior string
	InstancePoolsToUseCount      *int
}

type targetCapacity struct {
	DefaultTargetCapacityType string
	OnDemandTargetCapacity    *int
	SpotTargetCapacity        *int
	TotalTargetCapacity       *int `wire:",,required"`
}

// The limits of fleets (CreateFleet;
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/fleet-quotas.html).
const (
	maxFleetConfigs   = 50
	maxFleetInstances = 10000
	maxFleetMinimum   = 1000
)

type createFleetOutput struct {
	Errors    []fleetError `wire:",errorSet"`
	FleetId   string
	Instances []fleetInstances `wire:",fleetInstanceSet"`
}

// fleetError tells why there are no instances, or too few, from a pool.
type fleetError struct {
	ErrorCode                  string
	ErrorMessage               string
	LaunchTemplateAndOverrides templateAndOverrides
	Lifecycle                  string
}

// fleetInstances are the instances that were launched from a pool.
type fleetInstances struct {
	AvailabilityZone           string
	AvailabilityZoneId         string
	InstanceIds                []string
	InstanceType               string
	LaunchTemplateAndOverrides templateAndOverrides
	Lifecycle                  string
	SubnetId                   string
}

type templateAndOverrides struct {
	LaunchTemplateSpecification launchTemplateSpecification
	Overrides                   fleetOverrideItem
}

// fleetOverrideItem is an override in answers, which repeat it in part.
type fleetOverrideItem struct {
	AvailabilityZone    string
	AvailabilityZoneId  string
	BlockDeviceMappings []blockDevice `wire:",blockDeviceMappingSet"`
	ImageId             string
	InstanceType        string
	MaxPrice            string
	Placement           *placement
	Priority            *float64
	SubnetId            string
}

func (r *region) createFleet(c *api.Call, in *createFleetInput) (*createFleetOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	tagged, err := specified(in.TagSpecifications, "fleet", "instance", "network-interface", "volume")
	if err != nil {
		return nil, err
	}
	c.On(r.arn("fleet", "*"))
	return once(r, "CreateFleet", in.ClientToken, in, func() (*createFleetOutput, error) {
		pools, err := r.fleetPools(in.LaunchTemplateConfigs)
		if err != nil {
			return nil, err
		}
		onDemand, spot := in.TargetCapacitySpecification.split()
		a := &allocation{region: r, tags: tagged, fleet: "fleet-" + api.NewUUID()}
		if spot > 0 {
			a.permissions(c, pools, spotLifecycle)
		}
		if onDemand > 0 {
			a.permissions(c, pools, onDemandLifecycle)
		}
		a.fill(spotLifecycle, spot, in.SpotOptions.spread(len(pools)), in.SpotOptions.fleetOptions, pools)
		a.fill(onDemandLifecycle, onDemand, 1, in.OnDemandOptions, pools)
		fleet := &fleetRequest{r.newResource("fleet", tagged["fleet"])}
		fleet.Id = a.fleet
		r.Fleets[fleet.Id] = fleet
		return a.run(), nil
	})
}

// spread tells over how many of the pools the capacity is spread.
func (o fleetSpotOptions) spread(pools int) int {
	switch {
	case o.AllocationStrategy == "diversified":
		return pools
	case o.InstancePoolsToUseCount != nil:
		return *o.InstancePoolsToUseCount
	}
	return 1
}

// check refuses a request that could not be carried out whatever there is.
func (in *createFleetInput) check() error {
	switch kind := cmp.Or(in.Type, "maintain"); {
	case kind == "maintain" || kind == "request":
		return fail("UnsupportedOperation", "The sandbox has fleets of the type 'instant' only, not '%s'; give that type.", kind)
	case kind != "instant":
		return invalidValue(kind, "Type", "Expected one of 'request', 'maintain', 'instant'.")
	case in.ReplaceUnhealthyInstances, in.ExcessCapacityTerminationPolicy != "", in.TerminateInstancesWithExpiration, in.ValidFrom != nil, in.ValidUntil != nil:
		return fail("InvalidParameterCombination", "ReplaceUnhealthyInstances, ExcessCapacityTerminationPolicy, TerminateInstancesWithExpiration, ValidFrom and ValidUntil are not supported for fleets of type instant.")
	case len(in.LaunchTemplateConfigs) > maxFleetConfigs:
		return fail("InvalidParameterValue", "A fleet may have at most %d launch template configurations.", maxFleetConfigs)
	}
	if err := in.TargetCapacitySpecification.check(); err != nil {
		return err
	}
	if err := in.OnDemandOptions.check("OnDemandOptions", "lowest-price", "prioritized"); err != nil {
		return err
	}
	return in.SpotOptions.check()
}

func (t targetCapacity) check() error {
	total := *t.TotalTargetCapacity
	onDemand, spot := orZero(t.OnDemandTargetCapacity), orZero(t.SpotTargetCapacity)
	switch {
	case total < 1 || total > maxFleetInstances:
		return fail("InvalidParameterValue", "Value (%d) for parameter TotalTargetCapacity is invalid. Expected a number from 1 to %d.", total, maxFleetInstances)
	case onDemand < 0 || spot < 0 || onDemand+spot > total:
		return fail("InvalidTargetCapacitySpecification", "The On-Demand target capacity (%d) and the Spot target capacity (%d) together exceed the total target capacity (%d).", onDemand, spot, total)
	case !slices.Contains([]string{"", spotLifecycle, onDemandLifecycle}, t.DefaultTargetCapacityType):
		return invalidValue(t.DefaultTargetCapacityType, "DefaultTargetCapacityType", "The sandbox knows 'spot' and 'on-demand'.")
	case t.DefaultTargetCapacityType == "" && onDemand+spot != total:
		return fail("InvalidTargetCapacitySpecification", "Without a DefaultTargetCapacityType the On-Demand and the Spot target capacity must make up the total target capacity (%d).", total)
	}
	return nil
}

// split gives what is to be bought each way; what neither of the two capacities
// says is bought the default way.
func (t targetCapacity) split() (onDemand, spot int) {
	onDemand, spot = orZero(t.OnDemandTargetCapacity), orZero(t.SpotTargetCapacity)
	left := *t.TotalTargetCapacity - onDemand - spot
	if t.DefaultTargetCapacityType == spotLifecycle {
		return onDemand, spot + left
	}
	return onDemand + left, spot
}

func (o fleetOptions) check(name string, strategies ...string) error {
	switch {
	case o.AllocationStrategy != "" && !slices.Contains(strategies, o.AllocationStrategy):
		return invalidValue(o.AllocationStrategy, name+".AllocationStrategy", "Expected one of "+quoteAll(strategies)+".")
	case o.MinTargetCapacity == nil:
		return nil
	case *o.MinTargetCapacity < 1 || *o.MinTargetCapacity > maxFleetMinimum:
		return fail("InvalidParameterValue", "Value (%d) for parameter %s.MinTargetCapacity is invalid. Expected a number from 1 to %d.", *o.MinTargetCapacity, name, maxFleetMinimum)
	case !o.SingleAvailabilityZone && !o.SingleInstanceType:
		return fail("InvalidParameterCombination", "%s.MinTargetCapacity needs SingleAvailabilityZone or SingleInstanceType.", name)
	}
	return nil
}

func (o fleetSpotOptions) check() error {
	if err := o.fleetOptions.check("SpotOptions", "lowest-price", "diversified", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized"); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{"", "terminate"}, o.InstanceInterruptionBehavior):
		return fail("InvalidParameterCombination", "Spot Instances of a fleet of type instant are terminated when they are interrupted, not '%s'.", o.InstanceInterruptionBehavior)
	case o.InstancePoolsToUseCount == nil:
		return nil
	case cmp.Or(o.AllocationStrategy, "lowest-price") != "lowest-price":
		return fail("InvalidParameterCombination", "InstancePoolsToUseCount is supported only with the allocation strategy lowest-price.")
	case *o.InstancePoolsToUseCount < 1:
		return fail("InvalidParameterValue", "Value (%d) for parameter InstancePoolsToUseCount is invalid. Expected at least 1.", *o.InstancePoolsToUseCount)
	}
	return nil
}

// fleetPool is one way in which a fleet may launch instances: a configuration's
// launch template, and one of its overrides.
type fleetPool struct {
	template fleetTemplate
	override fleetOverride
	source   *launchTemplate
	version  *launchTemplateVersion
	kind     *instanceType // nil where the type is none of the sandbox's
}

// fleetPools lists the pools in the order of the request. That a launch template
// is not there fails the request; what else is wrong fails the pool.
func (r *region) fleetPools(configs []fleetConfig) ([]*fleetPool, error) {
	var pools []*fleetPool
	for _, config := range configs {
		spec := config.LaunchTemplateSpecification
		if spec == nil {
			return nil, missing("LaunchTemplateSpecification")
		}
		if spec.Version == "" {
			return nil, missing("Version") // FleetLaunchTemplateSpecificationRequest
		}
		template, err := r.template(spec.launchTemplateRef)
		if err != nil {
			return nil, err
		}
		version, err := template.version(spec.Version)
		if err != nil {
			return nil, err
		}
		overrides := config.Overrides
		if len(overrides) == 0 {
			overrides = []fleetOverride{{}}
		}
		for _, override := range overrides {
			if err := override.check(); err != nil {
				return nil, err
			}
			named := cmp.Or(override.InstanceType, version.Data.InstanceType)
			pools = append(pools, &fleetPool{*spec, override, template, version, instanceTypes[named]})
		}
	}
	return pools, nil
}

func (o fleetOverride) check() error {
	switch {
	case o.AvailabilityZone != "" && o.AvailabilityZoneId != "":
		return fail("InvalidParameterCombination", "Either AvailabilityZone or AvailabilityZoneId must be specified in the request, but not both.")
	case o.Placement != nil && (o.Placement.AvailabilityZone != "" || o.Placement.AvailabilityZoneId != "") && o.AvailabilityZone+o.AvailabilityZoneId != "":
		return fail("InvalidParameterCombination", "The Availability Zone of an override cannot be given twice.")
	case o.Priority != nil && (*o.Priority < 0 || *o.Priority != float64(int(*o.Priority))):
		return fail("InvalidParameterValue", "Value (%v) for parameter Priority is invalid. Valid values are whole numbers starting at 0.", *o.Priority)
	}
	if err := checkDevices(o.BlockDeviceMappings); err != nil {
		return err
	}
	return checkMaxPrice(o.MaxPrice)
}

// order is the order for instances of the pool.
func (p *fleetPool) order(lifecycle string) order {
	o := order{fleet: true, subnetID: p.override.SubnetId, data: launchData{
		BlockDeviceMappings: p.override.BlockDeviceMappings, IamInstanceProfile: p.override.IamInstanceProfile, ImageId: p.override.ImageId,
		InstanceType: p.override.InstanceType, KeyName: p.override.KeyName, MetadataOptions: p.override.MetadataOptions,
		Placement: p.override.Placement, UserData: p.template.LaunchTemplateSpecificationUserData,
	}}
	if zone := p.override.AvailabilityZone; zone != "" {
		o.data.Placement = &placement{AvailabilityZone: zone}
	}
	if id := p.override.AvailabilityZoneId; id != "" {
		o.data.Placement = &placement{AvailabilityZoneId: id}
	}
	o.data.tidy()
	o.from(p.source, p.version)
	if lifecycle == onDemandLifecycle {
		o.data.InstanceMarketOptions = nil
		return o
	}
	market := marketOptions{MarketType: spotLifecycle, SpotOptions: &spotOptions{}}
	if given := o.data.InstanceMarketOptions; given != nil && given.SpotOptions != nil {
		*market.SpotOptions = *given.SpotOptions
	}
	market.SpotOptions.MaxPrice = cmp.Or(p.override.MaxPrice, market.SpotOptions.MaxPrice)
	o.data.InstanceMarketOptions = &market
	return o
}

// repeated is the pool as answers name it.
func (p *fleetPool) repeated() templateAndOverrides {
	o := p.override
	return templateAndOverrides{
		launchTemplateSpecification{launchTemplateRef{LaunchTemplateId: p.source.Id}, fmt.Sprint(p.version.Number)},
		fleetOverrideItem{
			o.AvailabilityZone, o.AvailabilityZoneId, o.BlockDeviceMappings, o.ImageId, cmp.Or(o.InstanceType, p.version.Data.InstanceType),
			o.MaxPrice, o.Placement, o.Priority, o.SubnetId,
		},
	}
}
