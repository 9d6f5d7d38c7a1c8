package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// The default VPC, which has a subnet in each of three zones and is the same
// in each region (https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc.html).
var (
	defaultVpcCidr     = netip.MustParsePrefix("172.31.0.0/16")
	defaultSubnetCidrs = map[string]netip.Prefix{
		"a": netip.MustParsePrefix("172.31.0.0/20"),
		"b": netip.MustParsePrefix("172.31.16.0/20"),
		"c": netip.MustParsePrefix("172.31.32.0/20"),
	}
)

// zoneLetters are the zones of a region.
var zoneLetters = []string{"a", "b", "c"}

type vpc struct {
	resource
	Cidr netip.Prefix
}

type subnet struct {
	resource
	Zone, ZoneId string
	Cidr         netip.Prefix
}

// newNetwork lays out a region's default VPC.
func (r *region) newNetwork() {
	r.Vpc = &vpc{resource: r.newResource("vpc", nil), Cidr: defaultVpcCidr}
	r.Vpc.Id = fixedID("vpc", r.name)
	for i, letter := range zoneLetters {
		s := &subnet{
			resource: r.newResource("subnet", nil), Zone: r.name + letter,
			ZoneId: fmt.Sprintf("%s-az%d", shortRegion(r.name), i+1), Cidr: defaultSubnetCidrs[letter],
		}
		s.Id = fixedID("subnet", s.Zone)
		r.Subnets[s.Id] = s
	}
	group := r.newSecurityGroup(defaultGroup, "default VPC security group", nil)
	group.Id = fixedID("sg", r.name)
	group.add(rule{IpProtocol: "-1", ReferencedGroupId: group.Id})
	r.SecurityGroups[group.Id] = group
}

// shortRegion is a region's name as zone ids have it: euw1 for eu-west-1.
func shortRegion(name string) string {
	parts := strings.Split(name, "-")
	var short strings.Builder
	for i, part := range parts {
		switch {
		case i == 0:
			short.WriteString(part)
		case strings.HasSuffix(part, "east") || strings.HasSuffix(part, "west"):
			short.WriteString(strings.NewReplacer("north", "n", "south", "s", "east", "e", "west", "w").Replace(part))
		default:
			short.WriteString(part[:1])
		}
	}
	return short.String()
}

func (r *region) vpc(id string) (*vpc, error) {
	if id != r.Vpc.Id {
		return nil, fail("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
	}
	return r.Vpc, nil
}

func (r *region) subnet(id string) (*subnet, error) {
	if found := r.Subnets[id]; found != nil {
		return found, nil
	}
	return nil, fail("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
}

// subnetIn gives the default subnet of a zone.
func (r *region) subnetIn(zone string) (*subnet, error) {
	for _, s := range r.Subnets {
		if s.Zone == zone {
			return s, nil
		}
	}
	return nil, fail("InvalidParameterValue", "Invalid availability zone: [%s]", zone)
}

type vpcItem struct {
	CidrBlock       string
	DhcpOptionsId   string
	InstanceTenancy string
	IsDefault       bool
	OwnerId         string
	State           string
	Tags            []tag `wire:",tagSet"`
	VpcId           string
}

type describeVpcsInput struct {
	paging
	Filters []filter `wire:"Filter"`
	VpcIds  []string `wire:"VpcId"`
}

type describeVpcsOutput struct {
	NextToken string
	Vpcs      []vpcItem `wire:",vpcSet"`
}

var vpcFilters = filterable[vpcItem]{
	values: map[string]func(vpcItem) []string{
		"cidr":       func(v vpcItem) []string { return []string{v.CidrBlock} },
		"is-default": func(v vpcItem) []string { return truth(v.IsDefault) },
		"isDefault":  func(v vpcItem) []string { return truth(v.IsDefault) },
		"owner-id":   func(v vpcItem) []string { return []string{v.OwnerId} },
		"state":      func(v vpcItem) []string { return []string{v.State} },
		"vpc-id":     func(v vpcItem) []string { return []string{v.VpcId} },
	},
	tags: func(v vpcItem) tags { return tagMap(v.Tags) },
}

func (r *region) describeVpcs(_ *api.Call, in *describeVpcsInput) (*describeVpcsOutput, error) {
	for _, id := range in.VpcIds {
		if _, err := r.vpc(id); err != nil {
			return nil, err
		}
	}
	found, next, err := describe([]*vpc{r.Vpc}, in.VpcIds, r.vpcItem, vpcFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeVpcsOutput{next, found}, err
}

func (r *region) vpcItem(v *vpc) vpcItem {
	return vpcItem{
		CidrBlock: v.Cidr.String(), DhcpOptionsId: fixedID("dopt", r.name), InstanceTenancy: "default", IsDefault: true,
		OwnerId: api.Account, State: "available", Tags: v.Tags.wire(), VpcId: v.Id,
	}
}

type subnetItem struct {
	AssignIpv6AddressOnCreation bool
	AvailabilityZone            string
	AvailabilityZoneId          string
	AvailableIpAddressCount     int
	CidrBlock                   string
	DefaultForAz                bool
	MapPublicIpOnLaunch         bool
	OwnerId                     string
	State                       string
	SubnetArn                   string
	SubnetId                    string
	Tags                        []tag `wire:",tagSet"`
	VpcId                       string
}

type describeSubnetsInput struct {
	paging
	Filters   []filter `wire:"Filter"`
	SubnetIds []string `wire:"SubnetId"`
}

type describeSubnetsOutput struct {
	NextToken string
	Subnets   []subnetItem `wire:",subnetSet"`
}

var subnetFilters = filterable[subnetItem]{
	values: map[string]func(subnetItem) []string{
		"availability-zone":          func(s subnetItem) []string { return []string{s.AvailabilityZone} },
		"availabilityZone":           func(s subnetItem) []string { return []string{s.AvailabilityZone} },
		"availability-zone-id":       func(s subnetItem) []string { return []string{s.AvailabilityZoneId} },
		"available-ip-address-count": func(s subnetItem) []string { return []string{fmt.Sprint(s.AvailableIpAddressCount)} },
		"cidr":                       func(s subnetItem) []string { return []string{s.CidrBlock} },
		"cidr-block":                 func(s subnetItem) []string { return []string{s.CidrBlock} },
		"default-for-az":             func(s subnetItem) []string { return truth(s.DefaultForAz) },
		"defaultForAz":               func(s subnetItem) []string { return truth(s.DefaultForAz) },
		"map-public-ip-on-launch":    func(s subnetItem) []string { return truth(s.MapPublicIpOnLaunch) },
		"owner-id":                   func(s subnetItem) []string { return []string{s.OwnerId} },
		"state":                      func(s subnetItem) []string { return []string{s.State} },
		"subnet-arn":                 func(s subnetItem) []string { return []string{s.SubnetArn} },
		"subnet-id":                  func(s subnetItem) []string { return []string{s.SubnetId} },
		"vpc-id":                     func(s subnetItem) []string { return []string{s.VpcId} },
	},
	tags: func(s subnetItem) tags { return tagMap(s.Tags) },
}

func (r *region) describeSubnets(_ *api.Call, in *describeSubnetsInput) (*describeSubnetsOutput, error) {
	for _, id := range in.SubnetIds {
		if _, err := r.subnet(id); err != nil {
			return nil, err
		}
	}
	found, next, err := describe(ordered(r.Subnets), in.SubnetIds, r.subnetItem,
		subnetFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeSubnetsOutput{next, found}, err
}

func (r *region) subnetItem(s *subnet) subnetItem {
	return subnetItem{
		AvailabilityZone: s.Zone, AvailabilityZoneId: s.ZoneId, AvailableIpAddressCount: r.service.addresses.free(s.Cidr),
		CidrBlock: s.Cidr.String(), DefaultForAz: true, MapPublicIpOnLaunch: true, OwnerId: api.Account, State: "available",
		SubnetArn: r.arn("subnet", s.Id), SubnetId: s.Id, Tags: s.Tags.wire(), VpcId: r.Vpc.Id,
	}
}

type zoneItem struct {
	GroupName          string
	NetworkBorderGroup string
	OptInStatus        string
	RegionName         string
	State              string `wire:",zoneState"`
	ZoneId             string
	ZoneName           string
	ZoneType           string
}

type describeAvailabilityZonesInput struct {
	AllAvailabilityZones bool
	Filters              []filter `wire:"Filter"`
	ZoneIds              []string `wire:"ZoneId"`
	ZoneNames            []string `wire:"ZoneName"`
}

type describeAvailabilityZonesOutput struct {
	AvailabilityZones []zoneItem `wire:",availabilityZoneInfo"`
}

var zoneFilters = filterable[zoneItem]{values: map[string]func(zoneItem) []string{
	"group-name":    func(z zoneItem) []string { return []string{z.GroupName} },
	"opt-in-status": func(z zoneItem) []string { return []string{z.OptInStatus} },
	"region-name":   func(z zoneItem) []string { return []string{z.RegionName} },
	"state":         func(z zoneItem) []string { return []string{z.State} },
	"zone-id":       func(z zoneItem) []string { return []string{z.ZoneId} },
	"zone-name":     func(z zoneItem) []string { return []string{z.ZoneName} },
	"zone-type":     func(z zoneItem) []string { return []string{z.ZoneType} },
}}

func (r *region) describeAvailabilityZones(_ *api.Call, in *describeAvailabilityZonesInput) (*describeAvailabilityZonesOutput, error) {
	var zones []zoneItem
	for _, s := range ordered(r.Subnets) {
		zones = append(zones, zoneItem{
			GroupName: r.name, NetworkBorderGroup: r.name, OptInStatus: "opt-in-not-required", RegionName: r.name,
			State: "available", ZoneId: s.ZoneId, ZoneName: s.Zone, ZoneType: "availability-zone",
		})
	}
	zones, err := only(zones, in.ZoneNames, func(z zoneItem) string { return z.ZoneName }, "Invalid availability zone: [%s]")
	if err != nil {
		return nil, err
	}
	zones, err = only(zones, in.ZoneIds, func(z zoneItem) string { return z.ZoneId }, "Invalid availability zone-id: [%s]")
	if err != nil {
		return nil, err
	}
	zones, err = zoneFilters.keep(zones, in.Filters)
	return &describeAvailabilityZonesOutput{zones}, err
}

// only keeps the items of the names, each of which must be there.
func only[T any](items []T, names []string, nameOf func(T) string, lacking string) ([]T, error) {
	for _, name := range names {
		if !slices.ContainsFunc(items, func(item T) bool { return nameOf(item) == name }) {
			return nil, fail("InvalidParameterValue", lacking, name)
		}
	}
	if len(names) == 0 {
		return items, nil
	}
	return slices.DeleteFunc(items, func(item T) bool { return !slices.Contains(names, nameOf(item)) }), nil
}

// The regions of the aws partition: those that every account has, and those
// that it must opt in to.
var (
	standardRegions = []string{
		"ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2",
		"ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1",
		"us-east-1", "us-east-2", "us-west-1", "us-west-2",
	}
	optInRegions = []string{
		"af-south-1", "ap-east-1", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-7",
		"ca-west-1", "eu-central-2", "eu-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1", "mx-central-1",
	}
)

type regionItem struct {
	Endpoint    string `wire:",regionEndpoint"`
	OptInStatus string
	RegionName  string
}

type describeRegionsInput struct {
	AllRegions  bool
	Filters     []filter `wire:"Filter"`
	RegionNames []string `wire:"RegionName"`
}

type describeRegionsOutput struct {
	Regions []regionItem `wire:",regionInfo"`
}

var regionFilters = filterable[regionItem]{values: map[string]func(regionItem) []string{
	"endpoint":      func(r regionItem) []string { return []string{r.Endpoint} },
	"opt-in-status": func(r regionItem) []string { return []string{r.OptInStatus} },
	"region-name":   func(r regionItem) []string { return []string{r.RegionName} },
}}

func (r *region) describeRegions(_ *api.Call, in *describeRegionsInput) (*describeRegionsOutput, error) {
	var all []regionItem
	add := func(names []string, status string) {
		for _, name := range names {
			all = append(all, regionItem{"ec2." + name + ".amazonaws.com", status, name})
		}
	}
	add(standardRegions, "opt-in-not-required")
	if in.AllRegions {
		add(optInRegions, "not-opted-in")
	}
	all, err := only(all, in.RegionNames, func(r regionItem) string { return r.RegionName }, "Invalid region names: [%s]")
	if err != nil {
		return nil, err
	}
	all, err = regionFilters.keep(all, in.Filters)
	return &describeRegionsOutput{all}, err
}
