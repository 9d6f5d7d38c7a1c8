package elbv2

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// loadBalancer is a load balancer of type application or network.
type loadBalancer struct {
	ARN, Name, Type, Scheme string
	Created                 time.Time
	Active                  time.Time // provisioning before
	Address                 netip.Addr
	Subnets                 []ec2.SubnetPlace
	SecurityGroups          []string
	Nodes                   []ec2.Interface
	DeletionProtection      bool `json:",omitempty"`
	Tags                    tags `json:",omitempty"`
}

// The types of load balancers.
const (
	application = "application"
	network     = "network"
)

var nameRule = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

// checkName checks the name of a load balancer or a target group.
func checkName(what, name string) error {
	if !nameRule.MatchString(name) || strings.HasPrefix(name, "internal-") {
		return invalid("The %s name '%s' is not valid: it has at most 32 letters, digits and hyphens, neither begins nor ends with a hyphen, and does not begin with internal-", what, name)
	}
	return nil
}

type createLoadBalancerInput struct {
	Name           string `wire:",,required"`
	Type           string
	Scheme         string
	IpAddressType  string
	Subnets        []string
	SecurityGroups []string
	Tags           []tag
}

type loadBalancersOutput struct{ LoadBalancers []loadBalancerOut }

type loadBalancerOut struct {
	LoadBalancerArn       string
	LoadBalancerName      string
	DNSName               string
	CanonicalHostedZoneId string
	CreatedTime           time.Time
	Scheme                string
	Type                  string
	VpcId                 string
	IpAddressType         string
	State                 loadBalancerState
	AvailabilityZones     []availabilityZone
	SecurityGroups        []string
}

type loadBalancerState struct{ Code string }

type availabilityZone struct{ ZoneName, SubnetId string }

// createLoadBalancer may be repeated with the same settings.
func (s *Service) createLoadBalancer(_ context.Context, c *api.Call, in *createLoadBalancerInput) (*loadBalancersOutput, error) {
	r := s.in(c.Region)
	kind := map[string]string{"": application, application: application, network: network}[in.Type]
	if kind == "" {
		return nil, invalid("The sandbox does not know load balancers of type %s; it knows %s and %s", in.Type, application, network)
	}
	arn := c.ARN(fmt.Sprintf("loadbalancer/%s/%s/%s", map[string]string{application: "app", network: "net"}[kind], in.Name, unique()))
	c.On(arn)
	if err := checkName("load balancer", in.Name); err != nil {
		return nil, err
	}
	if in.IpAddressType != "" && in.IpAddressType != "ipv4" {
		return nil, invalid("The sandbox does not know the IP address type %s; it knows ipv4", in.IpAddressType)
	}
	scheme := map[string]string{"": "internet-facing", "internet-facing": "internet-facing", "internal": "internal"}[in.Scheme]
	if scheme == "" {
		return nil, wire.Errorf("InvalidScheme", "The scheme '%s' is not valid", in.Scheme)
	}
	places, err := r.places(in.Subnets, kind)
	if err != nil {
		return nil, err
	}
	lb := &loadBalancer{
		ARN: arn, Name: in.Name, Type: kind, Scheme: scheme,
		Created:        c.Now,
		Active:         c.Now.Add(s.clock.Transition(clock.LoadBalancer)),
		Subnets:        places,
		SecurityGroups: r.securityGroups(kind, in.SecurityGroups),
	}
	if err := lb.Tags.add(c, arn, in.Tags); err != nil {
		return nil, err
	}
	for _, other := range r.LoadBalancers {
		switch {
		case other.Name != lb.Name:
		case other.Type == lb.Type && other.Scheme == lb.Scheme && slices.Equal(other.Subnets, lb.Subnets) && slices.Equal(other.SecurityGroups, lb.SecurityGroups):
			return &loadBalancersOutput{[]loadBalancerOut{other.describe(c.Now)}}, nil
		default:
			return nil, wire.Errorf("DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", lb.Name)
		}
	}
	n := s.nextAddress()
	if n == 0 {
		return nil, wire.Errorf("TooManyLoadBalancers", "The sandbox has addresses for %d load balancers", maxLoadBalancers)
	}
	if err := r.addNodes(lb); err != nil {
		return nil, err
	}
	lb.Address = s.address(n)
	r.LoadBalancers[arn] = lb
	return &loadBalancersOutput{[]loadBalancerOut{lb.describe(c.Now)}}, nil
}

// nextAddress is the lowest number, from 1, whose address no load balancer of any
// region has; 0 when there is none.
func (s *Service) nextAddress() int {
	for n := 1; n <= maxLoadBalancers; n++ {
		if !s.taken(&loadBalancer{Address: s.address(n)}) {
			return n
		}
	}
	return 0
}

// taken is whether another load balancer has the address of this one.
func (s *Service) taken(lb *loadBalancer) bool {
	for _, name := range s.pages.Regions() {
		for _, other := range s.pages.In(name).LoadBalancers {
			if other.Address == lb.Address && other.ARN != lb.ARN {
				return true
			}
		}
	}
	return false
}

func (r *region) places(subnets []string, kind string) ([]ec2.SubnetPlace, error) {
	var places []ec2.SubnetPlace
	for _, id := range subnets {
		place, ok := r.fleet.Subnet(id)
		if !ok {
			return nil, wire.Errorf("SubnetNotFound", "The subnet ID '%s' does not exist", id)
		}
		if slices.ContainsFunc(places, func(p ec2.SubnetPlace) bool { return p.Zone == place.Zone }) {
			return nil, wire.Errorf("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		}
		places = append(places, place)
	}
	if least := map[string]int{application: 2, network: 1}[kind]; len(places) < least {
		return nil, invalid("At least %s must be specified", map[int]string{1: "one subnet", 2: "two subnets in two different Availability Zones"}[least])
	}
	return places, nil
}

func (lb *loadBalancer) describe(now time.Time) loadBalancerOut {
	out := loadBalancerOut{
		LoadBalancerArn:       lb.ARN,
		LoadBalancerName:      lb.Name,
		DNSName:               lb.Address.String(),
		CanonicalHostedZoneId: "Z32O12XQLNTSW2",
		CreatedTime:           lb.Created,
		Scheme:                lb.Scheme,
		Type:                  lb.Type,
		VpcId:                 lb.Subnets[0].VpcID,
		IpAddressType:         "ipv4",
		State:                 loadBalancerState{"provisioning"},
		SecurityGroups:        slices.Clone(lb.SecurityGroups),
	}
	if !now.Before(lb.Active) {
		out.State.Code = "active"
	}
	for _, p := range lb.Subnets {
		out.AvailabilityZones = append(out.AvailabilityZones, availabilityZone{p.Zone, p.ID})
	}
	return out
}

type describeLoadBalancersInput struct {
	paging
	LoadBalancerArns []string
	Names            []string
}

type describeLoadBalancersOutput struct {
	LoadBalancers []loadBalancerOut
	NextMarker    string
}

func (s *Service) describeLoadBalancers(_ context.Context, c *api.Call, in *describeLoadBalancersInput) (*describeLoadBalancersOutput, error) {
	r := s.in(c.Region)
	var found []*loadBalancer
	for _, lb := range inOrder(r.LoadBalancers) {
		if len(in.LoadBalancerArns)+len(in.Names) == 0 || slices.Contains(in.LoadBalancerArns, lb.ARN) || slices.Contains(in.Names, lb.Name) {
			found = append(found, lb)
		}
	}
	for _, name := range in.Names {
		if !slices.ContainsFunc(found, func(lb *loadBalancer) bool { return lb.Name == name }) {
			return nil, wire.Errorf("LoadBalancerNotFound", "Load balancers '[%s]' not found", name)
		}
	}
	for _, arn := range in.LoadBalancerArns {
		if _, err := r.loadBalancer(arn); err != nil {
			return nil, err
		}
	}
	found, marker, err := cut(found, in.paging, func(lb *loadBalancer) string { return lb.ARN })
	if err != nil {
		return nil, err
	}
	out := &describeLoadBalancersOutput{NextMarker: marker}
	for _, lb := range found {
		out.LoadBalancers = append(out.LoadBalancers, lb.describe(c.Now))
	}
	return out, nil
}

func (r *region) loadBalancer(arn string) (*loadBalancer, error) {
	lb, ok := r.LoadBalancers[arn]
	if !ok {
		return nil, wire.Errorf("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
	}
	return lb, nil
}

type loadBalancerInput struct {
	LoadBalancerArn string `wire:",,required"`
}

// deleteLoadBalancer deletes the listeners with it. One that does not exist is
// no error, as with AWS.
func (s *Service) deleteLoadBalancer(_ context.Context, c *api.Call, in *loadBalancerInput) (*succeeded, error) {
	r := s.in(c.Region)
	c.On(in.LoadBalancerArn)
	lb, ok := r.LoadBalancers[in.LoadBalancerArn]
	if !ok {
		return &succeeded{}, nil
	}
	if lb.DeletionProtection {
		return nil, wire.Errorf("OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", lb.ARN)
	}
	for arn, l := range r.Listeners {
		if l.LoadBalancer == lb.ARN {
			s.close(r, arn)
		}
	}
	delete(r.LoadBalancers, lb.ARN)
	s.inUseChanged(r)
	r.removeNodes(lb)
	return &succeeded{}, nil
}

type attribute struct {
	Key   string `wire:",,required"`
	Value string
}

type attributesOutput struct{ Attributes []attribute }

const deletionProtection = "deletion_protection.enabled"

type modifyLoadBalancerAttributesInput struct {
	LoadBalancerArn string `wire:",,required"`
	Attributes      []attribute
}

func (s *Service) modifyLoadBalancerAttributes(_ context.Context, c *api.Call, in *modifyLoadBalancerAttributesInput) (*attributesOutput, error) {
	c.On(in.LoadBalancerArn)
	lb, err := s.in(c.Region).loadBalancer(in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	for _, a := range in.Attributes {
		switch {
		case a.Key != deletionProtection:
			return nil, invalid("The sandbox does not know the load balancer attribute '%s'; it knows %s", a.Key, deletionProtection)
		case a.Value != "true" && a.Value != "false":
			return nil, wire.Errorf("InvalidConfigurationRequest", "Load balancer attribute value '%s' of '%s' must be true or false", a.Value, a.Key)
		}
	}
	for _, a := range in.Attributes {
		lb.DeletionProtection = a.Value == "true"
	}
	return lb.attributes(), nil
}

func (s *Service) describeLoadBalancerAttributes(_ context.Context, c *api.Call, in *loadBalancerInput) (*attributesOutput, error) {
	lb, err := s.in(c.Region).loadBalancer(in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	return lb.attributes(), nil
}

func (lb *loadBalancer) attributes() *attributesOutput {
	return &attributesOutput{[]attribute{{deletionProtection, fmt.Sprint(lb.DeletionProtection)}}}
}
