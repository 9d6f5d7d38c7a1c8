package elbv2

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// targetGroup is a target group of instances.
type targetGroup struct {
	ARN, Name, VPC      string
	Protocol            string
	Port                int
	Check               healthCheck
	DeregistrationDelay int // seconds
	InUse               bool
	Targets             map[string][]*target // by instance, which can have several ports
	Tags                tags                 `json:",omitempty"`
}

// healthCheck is how a target group's targets are checked; times in seconds.
type healthCheck struct {
	Protocol, Port, Path, Matcher string
	Interval, Timeout             int
	Healthy, Unhealthy            int
}

// trafficPort is the health check's port that is the target's own.
const trafficPort = "traffic-port"

// healthCheckInput are the parameters of a health check.
type healthCheckInput struct {
	HealthCheckEnabled         *bool
	HealthCheckProtocol        string
	HealthCheckPort            string
	HealthCheckPath            string
	HealthCheckIntervalSeconds *int
	HealthCheckTimeoutSeconds  *int
	HealthyThresholdCount      *int
	UnhealthyThresholdCount    *int
	Matcher                    *matcher
}

type matcher struct{ HttpCode string }

type createTargetGroupInput struct {
	healthCheckInput
	Name       string `wire:",,required"`
	Protocol   string
	Port       *int
	VpcId      string
	TargetType string
	Tags       []tag
}

type targetGroupsOutput struct{ TargetGroups []targetGroupOut }

type targetGroupOut struct {
	TargetGroupArn             string
	TargetGroupName            string
	Protocol                   string
	ProtocolVersion            string
	Port                       int
	VpcId                      string
	TargetType                 string
	IpAddressType              string
	HealthCheckEnabled         bool
	HealthCheckProtocol        string
	HealthCheckPort            string
	HealthCheckPath            string
	HealthCheckIntervalSeconds int
	HealthCheckTimeoutSeconds  int
	HealthyThresholdCount      int
	UnhealthyThresholdCount    int
	Matcher                    *matcher
	LoadBalancerArns           []string
}

// createTargetGroup may be repeated with the same settings.
func (s *Service) createTargetGroup(_ context.Context, c *api.Call, in *createTargetGroupInput) (*targetGroupsOutput, error) {
	r := s.in(c.Region)
	arn := c.ARN("targetgroup/" + in.Name + "/" + unique())
	c.On(arn)
	if err := checkName("target group", in.Name); err != nil {
		return nil, err
	}
	if in.TargetType != "" && in.TargetType != "instance" {
		return nil, invalid("The sandbox does not know target groups of type %s; it knows instance", in.TargetType)
	}
	if in.Protocol != "HTTP" && in.Protocol != "TCP" {
		return nil, wire.Errorf("UnsupportedProtocol", "The sandbox does not know target groups of protocol '%s'; it knows HTTP and TCP", in.Protocol)
	}
	if in.Port == nil || *in.Port < 1 || *in.Port > 65535 {
		return nil, invalid("A target group must have a port between 1 and 65535")
	}
	if subnets := r.fleet.Subnets(); len(subnets) == 0 || subnets[0].VpcID != in.VpcId {
		return nil, invalid("The VPC ID '%s' is not found", in.VpcId)
	}
	tg := &targetGroup{
		ARN: arn, Name: in.Name, VPC: in.VpcId, Protocol: in.Protocol, Port: *in.Port,
		Check:               healthCheck{Protocol: in.Protocol, Port: trafficPort, Interval: 30, Timeout: 10, Healthy: 5, Unhealthy: 2},
		DeregistrationDelay: 300,
		Targets:             map[string][]*target{},
	}
	if err := tg.Check.change(&in.healthCheckInput); err != nil {
		return nil, err
	}
	if err := tg.Tags.add(c, arn, in.Tags); err != nil {
		return nil, err
	}
	for _, other := range r.TargetGroups {
		switch {
		case other.Name != tg.Name:
		case other.Protocol == tg.Protocol && other.Port == tg.Port && other.Check == tg.Check:
			return &targetGroupsOutput{[]targetGroupOut{r.describe(other)}}, nil
		default:
			return nil, wire.Errorf("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", tg.Name)
		}
	}
	r.TargetGroups[arn] = tg
	s.serve(r, tg)
	return &targetGroupsOutput{[]targetGroupOut{r.describe(tg)}}, nil
}

var codes = regexp.MustCompile(`^[2-4][0-9]{2}(-[2-4][0-9]{2})?(,[2-4][0-9]{2}(-[2-4][0-9]{2})?)*$`)

// change applies what a request gives and checks that all of it fits together.
func (h *healthCheck) change(in *healthCheckInput) error {
	if in.HealthCheckEnabled != nil && !*in.HealthCheckEnabled {
		return wire.Errorf("InvalidConfigurationRequest", "Health check enabled must be true for target groups with target type 'instance'")
	}
	if in.HealthCheckProtocol != "" {
		h.Protocol = in.HealthCheckProtocol
	}
	switch h.Protocol {
	case "HTTP":
		if h.Path == "" { // it has only just become HTTP
			h.Path, h.Matcher, h.Timeout = "/", "200", min(h.Timeout, 5)
		}
	case "TCP":
		if in.HealthCheckPath != "" || in.Matcher != nil {
			return wire.Errorf("InvalidConfigurationRequest", "A health check of protocol TCP has neither a path nor a matcher")
		}
		h.Path, h.Matcher = "", ""
	default:
		return wire.Errorf("UnsupportedProtocol", "The sandbox does not know health checks of protocol '%s'; it knows HTTP and TCP", h.Protocol)
	}
	if in.HealthCheckPort != "" {
		if port, err := strconv.Atoi(in.HealthCheckPort); in.HealthCheckPort != trafficPort && (err != nil || port < 1 || port > 65535) {
			return invalid("Health check port '%s' must be a valid port or '%s'", in.HealthCheckPort, trafficPort)
		}
		h.Port = in.HealthCheckPort
	}
	if p := in.HealthCheckPath; p != "" {
		if !strings.HasPrefix(p, "/") || len(p) > 1024 {
			return invalid("Health check path '%s' must begin with a '/' character, and can be no longer than 1024 characters", p)
		}
		h.Path = p
	}
	if in.Matcher != nil {
		if !codes.MatchString(in.Matcher.HttpCode) {
			return invalid("Health check matcher HTTP code '%s' must be within '200-499'", in.Matcher.HttpCode)
		}
		h.Matcher = in.Matcher.HttpCode
	}
	for _, n := range []struct {
		what        string
		field       *int
		given       *int
		least, most int
	}{
		{"interval", &h.Interval, in.HealthCheckIntervalSeconds, 5, 300},
		{"timeout", &h.Timeout, in.HealthCheckTimeoutSeconds, 2, 120},
		{"healthy threshold count", &h.Healthy, in.HealthyThresholdCount, 2, 10},
		{"unhealthy threshold count", &h.Unhealthy, in.UnhealthyThresholdCount, 2, 10},
	} {
		set(n.field, n.given)
		if *n.field < n.least || *n.field > n.most {
			return invalid("Health check %s '%d' must be between %d and %d", n.what, *n.field, n.least, n.most)
		}
	}
	if h.Timeout >= h.Interval {
		return invalid("Health check timeout '%d' must be smaller than the interval '%d'", h.Timeout, h.Interval)
	}
	return nil
}

// spec is the target group as the plane wants it.
func (r *region) spec(s *Service, tg *targetGroup) TargetGroup {
	port, _ := strconv.Atoi(tg.Check.Port) // 0 for the traffic port
	return TargetGroup{
		ARN:           tg.ARN,
		Nodes:         r.nodesFor(tg.ARN),
		Protocol:      tg.Protocol,
		CheckProtocol: tg.Check.Protocol,
		CheckPort:     port,
		CheckPath:     tg.Check.Path,
		Matcher:       tg.Check.Matcher,
		Interval:      s.clock.Interval(seconds(tg.Check.Interval)),
		Timeout:       s.clock.Interval(seconds(tg.Check.Timeout)),
		Healthy:       tg.Check.Healthy,
		Unhealthy:     tg.Check.Unhealthy,
	}
}

func (r *region) describe(tg *targetGroup) targetGroupOut {
	h := tg.Check
	out := targetGroupOut{
		TargetGroupArn:             tg.ARN,
		TargetGroupName:            tg.Name,
		Protocol:                   tg.Protocol,
		Port:                       tg.Port,
		VpcId:                      tg.VPC,
		TargetType:                 "instance",
		IpAddressType:              "ipv4",
		HealthCheckEnabled:         true,
		HealthCheckProtocol:        h.Protocol,
		HealthCheckPort:            h.Port,
		HealthCheckPath:            h.Path,
		HealthCheckIntervalSeconds: h.Interval,
		HealthCheckTimeoutSeconds:  h.Timeout,
		HealthyThresholdCount:      h.Healthy,
		UnhealthyThresholdCount:    h.Unhealthy,
		LoadBalancerArns:           append([]string{}, r.loadBalancersOf(tg.ARN)...),
	}
	if tg.Protocol == "HTTP" {
		out.ProtocolVersion = "HTTP1"
	}
	if h.Matcher != "" {
		out.Matcher = &matcher{h.Matcher}
	}
	return out
}

// loadBalancersOf lists the load balancers that forward to a target group.
func (r *region) loadBalancersOf(targetGroup string) []string {
	var arns []string
	add := func(to []Weighted, l *listener) {
		forwards := slices.ContainsFunc(to, func(w Weighted) bool { return w.TargetGroup == targetGroup })
		if forwards && !slices.Contains(arns, l.LoadBalancer) {
			arns = append(arns, l.LoadBalancer)
		}
	}
	for _, l := range inOrder(r.Listeners) {
		add(l.Forward, l)
	}
	for _, u := range inOrder(r.Rules) {
		add(u.Forward, r.Listeners[u.Listener])
	}
	return arns
}

func (r *region) targetGroup(arn string) (*targetGroup, error) {
	tg, ok := r.TargetGroups[arn]
	if !ok {
		return nil, wire.Errorf("TargetGroupNotFound", "One or more target groups not found: %s", arn)
	}
	return tg, nil
}

type describeTargetGroupsInput struct {
	paging
	LoadBalancerArn string
	TargetGroupArns []string
	Names           []string
}

type describeTargetGroupsOutput struct {
	TargetGroups []targetGroupOut
	NextMarker   string
}

func (s *Service) describeTargetGroups(_ context.Context, c *api.Call, in *describeTargetGroupsInput) (*describeTargetGroupsOutput, error) {
	r := s.in(c.Region)
	for _, arn := range in.TargetGroupArns {
		if _, err := r.targetGroup(arn); err != nil {
			return nil, err
		}
	}
	if in.LoadBalancerArn != "" {
		if _, err := r.loadBalancer(in.LoadBalancerArn); err != nil {
			return nil, err
		}
	}
	var found []*targetGroup
	for _, tg := range inOrder(r.TargetGroups) {
		switch {
		case len(in.TargetGroupArns) > 0 && !slices.Contains(in.TargetGroupArns, tg.ARN):
		case len(in.Names) > 0 && !slices.Contains(in.Names, tg.Name):
		case in.LoadBalancerArn != "" && !slices.Contains(r.loadBalancersOf(tg.ARN), in.LoadBalancerArn):
		default:
			found = append(found, tg)
		}
	}
	for _, name := range in.Names {
		if !slices.ContainsFunc(found, func(tg *targetGroup) bool { return tg.Name == name }) {
			return nil, wire.Errorf("TargetGroupNotFound", "One or more target groups not found: %s", name)
		}
	}
	found, marker, err := cut(found, in.paging, func(tg *targetGroup) string { return tg.ARN })
	if err != nil {
		return nil, err
	}
	out := &describeTargetGroupsOutput{NextMarker: marker}
	for _, tg := range found {
		out.TargetGroups = append(out.TargetGroups, r.describe(tg))
	}
	return out, nil
}

type modifyTargetGroupInput struct {
	healthCheckInput
	TargetGroupArn string `wire:",,required"`
}

func (s *Service) modifyTargetGroup(_ context.Context, c *api.Call, in *modifyTargetGroupInput) (*targetGroupsOutput, error) {
	r := s.in(c.Region)
	c.On(in.TargetGroupArn)
	tg, err := r.targetGroup(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	changed := tg.Check
	if err := changed.change(&in.healthCheckInput); err != nil {
		return nil, err
	}
	tg.Check = changed
	s.serve(r, tg)
	return &targetGroupsOutput{[]targetGroupOut{r.describe(tg)}}, nil
}

type targetGroupInput struct {
	TargetGroupArn string `wire:",,required"`
}

// deleteTargetGroup has no error for one that does not exist, as AWS has none.
func (s *Service) deleteTargetGroup(_ context.Context, c *api.Call, in *targetGroupInput) (*succeeded, error) {
	r := s.in(c.Region)
	c.On(in.TargetGroupArn)
	tg, ok := r.TargetGroups[in.TargetGroupArn]
	if !ok {
		return &succeeded{}, nil
	}
	if len(r.loadBalancersOf(tg.ARN)) > 0 {
		return nil, wire.Errorf("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", tg.ARN)
	}
	for _, t := range tg.all() {
		s.remove(r, tg, t)
	}
	s.plane.Drop(tg.ARN)
	delete(r.TargetGroups, tg.ARN)
	return &succeeded{}, nil
}

const (
	deregistrationDelay    = "deregistration_delay.timeout_seconds"
	maxDeregistrationDelay = 3600
)

type modifyTargetGroupAttributesInput struct {
	TargetGroupArn string `wire:",,required"`
	Attributes     []attribute
}

func (s *Service) modifyTargetGroupAttributes(_ context.Context, c *api.Call, in *modifyTargetGroupAttributesInput) (*attributesOutput, error) {
	c.On(in.TargetGroupArn)
	tg, err := s.in(c.Region).targetGroup(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	delay := tg.DeregistrationDelay
	for _, a := range in.Attributes {
		if a.Key != deregistrationDelay {
			return nil, invalid("The sandbox does not know the target group attribute '%s'; it knows %s", a.Key, deregistrationDelay)
		}
		if delay, err = strconv.Atoi(a.Value); err != nil || delay < 0 || delay > maxDeregistrationDelay {
			return nil, invalid("Target group attribute key '%s' must have a value between 0 and %d, and not '%s'", a.Key, maxDeregistrationDelay, a.Value)
		}
	}
	tg.DeregistrationDelay = delay
	return tg.attributes(), nil
}

func (s *Service) describeTargetGroupAttributes(_ context.Context, c *api.Call, in *targetGroupInput) (*attributesOutput, error) {
	tg, err := s.in(c.Region).targetGroup(in.TargetGroupArn)
	if err != nil {
		return nil, err
	}
	return tg.attributes(), nil
}

func (tg *targetGroup) attributes() *attributesOutput {
	return &attributesOutput{[]attribute{{deregistrationDelay, fmt.Sprint(tg.DeregistrationDelay)}}}
}
