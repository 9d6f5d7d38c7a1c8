package elbv2

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// listener is a listener with its default action, which forwards.
type listener struct {
	ARN, LoadBalancer string
	Protocol          string
	Port              int
	Forward           []Weighted
	Tags              tags `json:",omitempty"`
}

// maxForward is how many target groups an action can forward to.
const maxForward = 5

// action is to forward, the only one that is known here.
type action struct {
	Type           string `wire:",,required"`
	Order          *int
	TargetGroupArn string
	ForwardConfig  *forwardConfig
}

type forwardConfig struct {
	TargetGroups                []targetGroupTuple
	TargetGroupStickinessConfig *stickiness
}

type targetGroupTuple struct {
	TargetGroupArn string `wire:",,required"`
	Weight         *int
}

type stickiness struct{ Enabled *bool }

type listenerOut struct {
	ListenerArn     string
	LoadBalancerArn string
	Port            int
	Protocol        string
	DefaultActions  []action
}

type listenersOutput struct{ Listeners []listenerOut }

type createListenerInput struct {
	LoadBalancerArn string `wire:",,required"`
	Protocol        string
	Port            *int
	DefaultActions  []action
	Tags            []tag
}

func (s *Service) createListener(_ context.Context, c *api.Call, in *createListenerInput) (*listenersOutput, error) {
	r := s.in(c.Region)
	lb, err := r.loadBalancer(in.LoadBalancerArn)
	c.On(in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	l := &listener{
		ARN:          strings.Replace(lb.ARN, ":loadbalancer/", ":listener/", 1) + "/" + unique(),
		LoadBalancer: lb.ARN,
	}
	if err := r.change(l, lb, in.Protocol, in.Port, in.DefaultActions); err != nil {
		return nil, err
	}
	if err := l.Tags.add(c, l.ARN, in.Tags); err != nil {
		return nil, err
	}
	if err := s.listen(r, l); err != nil {
		return nil, err
	}
	r.Listeners[l.ARN] = l
	s.inUseChanged(r)
	return &listenersOutput{[]listenerOut{l.describe()}}, nil
}

type modifyListenerInput struct {
	ListenerArn    string `wire:",,required"`
	Protocol       string
	Port           *int
	DefaultActions []action
}

func (s *Service) modifyListener(_ context.Context, c *api.Call, in *modifyListenerInput) (*listenersOutput, error) {
	r := s.in(c.Region)
	c.On(in.ListenerArn)
	l, err := r.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	changed := *l
	protocol, actions := in.Protocol, in.DefaultActions
	if protocol == "" {
		protocol = l.Protocol
	}
	if in.Port == nil {
		in.Port = &l.Port
	}
	if actions == nil {
		actions = l.describe().DefaultActions
	}
	if err := r.change(&changed, r.LoadBalancers[l.LoadBalancer], protocol, in.Port, actions); err != nil {
		return nil, err
	}
	if err := s.listen(r, &changed); err != nil {
		return nil, err
	}
	*l = changed
	s.inUseChanged(r)
	return &listenersOutput{[]listenerOut{l.describe()}}, nil
}

// change checks what a listener is to be and makes it that.
func (r *region) change(l *listener, lb *loadBalancer, protocol string, port *int, actions []action) error {
	want := map[string]string{application: "HTTP", network: "TCP"}[lb.Type]
	if protocol != want {
		return wire.Errorf("UnsupportedProtocol", "The sandbox's listeners of %s load balancers are %s, not '%s'", lb.Type, want, protocol)
	}
	if port == nil || *port < 1 || *port > 65535 {
		return invalid("A listener must have a port between 1 and 65535")
	}
	for _, other := range r.Listeners {
		if other.LoadBalancer == lb.ARN && other.Port == *port && other.ARN != l.ARN {
			return wire.Errorf("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", lb.ARN)
		}
	}
	forward, err := r.forwardOf(actions, lb, protocol)
	if err != nil {
		return err
	}
	l.Protocol, l.Port, l.Forward = protocol, *port, forward
	return nil
}

// forwardOf gives the target groups that actions forward to.
func (r *region) forwardOf(actions []action, lb *loadBalancer, protocol string) ([]Weighted, error) {
	if len(actions) != 1 || actions[0].Type != "forward" {
		return nil, wire.Errorf("InvalidLoadBalancerAction", "The sandbox's listeners and rules have exactly one action, of type forward")
	}
	a := actions[0]
	var tuples []targetGroupTuple
	if a.ForwardConfig != nil {
		tuples = a.ForwardConfig.TargetGroups
		if sticky := a.ForwardConfig.TargetGroupStickinessConfig; sticky != nil && sticky.Enabled != nil && *sticky.Enabled {
			return nil, wire.Errorf("InvalidLoadBalancerAction", "The sandbox does not know stickiness of target groups")
		}
	}
	switch {
	case a.TargetGroupArn != "" && len(tuples) == 0:
		tuples = []targetGroupTuple{{TargetGroupArn: a.TargetGroupArn}}
	case a.TargetGroupArn != "" && (len(tuples) != 1 || tuples[0].TargetGroupArn != a.TargetGroupArn):
		return nil, wire.Errorf("InvalidLoadBalancerAction", "An action must not specify both a TargetGroupArn and a ForwardConfig with other target groups")
	}
	if len(tuples) == 0 || len(tuples) > maxForward {
		return nil, wire.Errorf("TooManyUniqueTargetGroupsPerLoadBalancer", "An action forwards to between 1 and %d target groups, not to %d", maxForward, len(tuples))
	}
	var forward []Weighted
	for _, t := range tuples {
		tg, err := r.targetGroup(t.TargetGroupArn)
		if err != nil {
			return nil, err
		}
		if tg.Protocol != protocol {
			return nil, wire.Errorf("InvalidConfigurationRequest", "The target group '%s' has the protocol %s, which a listener of protocol %s cannot forward to", tg.ARN, tg.Protocol, protocol)
		}
		for _, other := range r.loadBalancersOf(tg.ARN) {
			if other != lb.ARN {
				return nil, wire.Errorf("TargetGroupAssociationLimit", "The following target groups cannot be associated with more than one load balancer: %s", tg.ARN)
			}
		}
		weight := 1
		set(&weight, t.Weight)
		if weight < 0 || weight > 999 {
			return nil, invalid("The weight of target group '%s' is %d, but must be between 0 and 999", tg.ARN, weight)
		}
		if slices.ContainsFunc(forward, func(w Weighted) bool { return w.TargetGroup == tg.ARN }) {
			return nil, wire.Errorf("InvalidLoadBalancerAction", "The target group '%s' is in the action more than once", tg.ARN)
		}
		forward = append(forward, Weighted{tg.ARN, weight})
	}
	return forward, nil
}

// listen has the plane listen.
func (s *Service) listen(r *region, l *listener) error {
	lb := r.LoadBalancers[l.LoadBalancer]
	var rules []Rule
	for _, u := range r.rulesOf(l.ARN) {
		rules = append(rules, Rule{slices.Clone(u.Conditions), slices.Clone(u.Forward)})
	}
	err := s.plane.Listen(Listener{
		ARN:      l.ARN,
		Address:  netip.AddrPortFrom(lb.Address, uint16(l.Port)),
		Protocol: l.Protocol,
		Rules:    rules,
		Forward:  slices.Clone(l.Forward),
		Shut:     !r.fleet.LetsIn(lb.SecurityGroups, uint16(l.Port)),
	})
	if err != nil {
		return wire.Errorf("InvalidConfigurationRequest", "The sandbox cannot listen for load balancer '%s' at %s port %d: %v", lb.Name, lb.Address, l.Port, err)
	}
	return nil
}

// forwardOut is a forward action on the wire.
func forwardOut(to []Weighted) action {
	forward := action{Type: "forward", Order: new(1), ForwardConfig: &forwardConfig{TargetGroupStickinessConfig: &stickiness{new(false)}}}
	for _, w := range to {
		forward.ForwardConfig.TargetGroups = append(forward.ForwardConfig.TargetGroups, targetGroupTuple{w.TargetGroup, new(w.Weight)})
	}
	if len(to) == 1 {
		forward.TargetGroupArn = to[0].TargetGroup
	}
	return forward
}

func (l *listener) describe() listenerOut {
	return listenerOut{
		ListenerArn:     l.ARN,
		LoadBalancerArn: l.LoadBalancer,
		Port:            l.Port,
		Protocol:        l.Protocol,
		DefaultActions:  []action{forwardOut(l.Forward)},
	}
}

func (r *region) listener(arn string) (*listener, error) {
	l, ok := r.Listeners[arn]
	if !ok {
		return nil, wire.Errorf("ListenerNotFound", "One or more listeners not found: %s", arn)
	}
	return l, nil
}

type describeListenersInput struct {
	paging
	LoadBalancerArn string
	ListenerArns    []string
}

type describeListenersOutput struct {
	Listeners  []listenerOut
	NextMarker string
}

func (s *Service) describeListeners(_ context.Context, c *api.Call, in *describeListenersInput) (*describeListenersOutput, error) {
	r := s.in(c.Region)
	if (in.LoadBalancerArn == "") == (len(in.ListenerArns) == 0) {
		return nil, invalid("You must specify either listener ARNs or a load balancer ARN")
	}
	if in.LoadBalancerArn != "" {
		if _, err := r.loadBalancer(in.LoadBalancerArn); err != nil {
			return nil, err
		}
	}
	for _, arn := range in.ListenerArns {
		if _, err := r.listener(arn); err != nil {
			return nil, err
		}
	}
	var found []*listener
	for _, l := range inOrder(r.Listeners) {
		if l.LoadBalancer == in.LoadBalancerArn || slices.Contains(in.ListenerArns, l.ARN) {
			found = append(found, l)
		}
	}
	found, marker, err := cut(found, in.paging, func(l *listener) string { return l.ARN })
	if err != nil {
		return nil, err
	}
	out := &describeListenersOutput{NextMarker: marker}
	for _, l := range found {
		out.Listeners = append(out.Listeners, l.describe())
	}
	return out, nil
}

type listenerInput struct {
	ListenerArn string `wire:",,required"`
}

func (s *Service) deleteListener(_ context.Context, c *api.Call, in *listenerInput) (*succeeded, error) {
	r := s.in(c.Region)
	c.On(in.ListenerArn)
	if _, err := r.listener(in.ListenerArn); err != nil {
		return nil, err
	}
	s.close(r, in.ListenerArn)
	s.inUseChanged(r)
	return &succeeded{}, nil
}

// close closes a listener, whose rules go with it.
func (s *Service) close(r *region, arn string) {
	s.plane.Unlisten(arn)
	for _, u := range r.rulesOf(arn) {
		delete(r.Rules, u.ARN)
	}
	delete(r.Listeners, arn)
}
