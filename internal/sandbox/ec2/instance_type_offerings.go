package ec2

import (
	"maps"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// offering tells that a location has an instance type.
type offering struct {
	InstanceType string
	Location     string
	LocationType string
}

type describeInstanceTypeOfferingsInput struct {
	paging
	Filters      []filter `wire:"Filter"`
	LocationType string
}

type describeInstanceTypeOfferingsOutput struct {
	InstanceTypeOfferings []offering `wire:",instanceTypeOfferingSet"`
	NextToken             string
}

var offeringFilters = filterable[offering]{values: map[string]func(offering) []string{
	"instance-type": func(o offering) []string { return []string{o.InstanceType} },
	"location":      func(o offering) []string { return []string{o.Location} },
}}

// describeInstanceTypeOfferings lists all of the sandbox's types for every
// location, but for the zones that are set not to have one.
func (r *region) describeInstanceTypeOfferings(_ *api.Call, in *describeInstanceTypeOfferingsInput) (*describeInstanceTypeOfferingsOutput, error) {
	var all []offering
	for _, name := range slices.Sorted(maps.Keys(instanceTypes)) {
		offered := func(zone string) bool { return r.service.shortages.offers(r.name, zone, instanceTypes[name]) }
		switch in.LocationType {
		case "", "region":
			all = append(all, offering{name, r.name, "region"})
		case "availability-zone":
			for _, zone := range r.zonesThat(offered) {
				all = append(all, offering{name, zone, in.LocationType})
			}
		case "availability-zone-id":
			for _, s := range ordered(r.Subnets) {
				if offered(s.Zone) {
					all = append(all, offering{name, s.ZoneId, in.LocationType})
				}
			}
		default:
			return nil, invalidValue(in.LocationType, "locationType", "The sandbox knows 'region', 'availability-zone' and 'availability-zone-id'.")
		}
	}
	all, err := offeringFilters.keep(all, in.Filters)
	if err != nil {
		return nil, err
	}
	all, next, err := cut(all, in.paging, pageRange{5, 1000}, func(o offering) string { return o.InstanceType + " " + o.Location })
	return &describeInstanceTypeOfferingsOutput{all, next}, err
}
