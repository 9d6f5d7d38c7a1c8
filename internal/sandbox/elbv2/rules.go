package elbv2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// rule is a rule of an application load balancer's listener, beside the default
// rule that its default action is.
type rule struct {
	ARN, Listener string
	Priority      int
	Conditions    []Condition
	Forward       []Weighted
	Tags          tags `json:",omitempty"`
}

const (
	maxPriority = 50000
	maxRules    = 100 // of a load balancer, without the default rules
)

type ruleOut struct {
	RuleArn    string
	Priority   string
	IsDefault  bool
	Conditions []condition
	Actions    []action
}

type rulesOutput struct{ Rules []ruleOut }

func (u *rule) describe() ruleOut {
	out := ruleOut{RuleArn: u.ARN, Priority: strconv.Itoa(u.Priority), Actions: []action{forwardOut(u.Forward)}}
	for _, c := range u.Conditions {
		out.Conditions = append(out.Conditions, c.describe())
	}
	return out
}

// describeDefault is a listener's default rule.
func (l *listener) describeDefault() ruleOut {
	return ruleOut{RuleArn: defaultRule(l.ARN), Priority: "default", IsDefault: true, Conditions: []condition{}, Actions: l.describe().DefaultActions}
}

// rulesOf lists the rules of a listener, by priority.
func (r *region) rulesOf(listener string) []*rule {
	var rules []*rule
	for _, u := range r.Rules {
		if u.Listener == listener {
			rules = append(rules, u)
		}
	}
	slices.SortFunc(rules, func(a, b *rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return rules
}

// rule finds a rule that is not a default one, for operations that change it.
func (r *region) rule(arn string) (*rule, *listener, error) {
	if u, ok := r.Rules[arn]; ok {
		return u, r.Listeners[u.Listener], nil
	}
	if l, ok := r.Listeners[listenerOfDefaultRule(arn)]; ok && defaultRule(l.ARN) == arn {
		return nil, nil, wire.Errorf("OperationNotPermitted", "Default rule '%s' cannot be modified", arn)
	}
	return nil, nil, wire.Errorf("RuleNotFound", "One or more rules not found: %s", arn)
}

// free checks that a priority is valid and that no other rule of the listener has
// it, but for those that are getting another one.
func (r *region) free(listener string, priority int, but ...string) error {
	if priority < 1 || priority > maxPriority {
		return invalid("Priority '%d' must be between 1 and %d", priority, maxPriority)
	}
	for _, u := range r.rulesOf(listener) {
		if u.Priority == priority && !slices.Contains(but, u.ARN) {
			return wire.Errorf("PriorityInUse", "Priority '%d' is currently in use", priority)
		}
	}
	return nil
}

type createRuleInput struct {
	ListenerArn string `wire:",,required"`
	Conditions  []condition
	Priority    *int `wire:",,required"`
	Actions     []action
	Tags        []tag
}

func (s *Service) createRule(_ context.Context, c *api.Call, in *createRuleInput) (*rulesOutput, error) {
	r := s.in(c.Region)
	c.On(in.ListenerArn)
	l, err := r.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	lb := r.LoadBalancers[l.LoadBalancer]
	if lb.Type != application {
		return nil, wire.Errorf("InvalidConfigurationRequest", "Listeners of %s load balancers have no rules but the default one", lb.Type)
	}
	if err := r.free(l.ARN, *in.Priority); err != nil {
		return nil, err
	}
	u := &rule{ARN: strings.Replace(l.ARN, ":listener/", ":listener-rule/", 1) + "/" + unique(), Listener: l.ARN, Priority: *in.Priority}
	if u.Conditions, err = conditionsOf(in.Conditions); err != nil {
		return nil, err
	}
	if u.Forward, err = r.forwardOf(in.Actions, lb, l.Protocol); err != nil {
		return nil, err
	}
	n := 0
	for _, other := range r.Rules {
		if r.Listeners[other.Listener].LoadBalancer == lb.ARN {
			n++
		}
	}
	if n >= maxRules {
		return nil, wire.Errorf("TooManyRules", "The maximum number of rules has been reached on the load balancer, which is %d", maxRules)
	}
	if err := u.Tags.add(c, u.ARN, in.Tags); err != nil {
		return nil, err
	}
	r.Rules[u.ARN] = u
	return &rulesOutput{[]ruleOut{u.describe()}}, s.routed(r, l)
}

type modifyRuleInput struct {
	RuleArn    string `wire:",,required"`
	Conditions []condition
	Actions    []action
}

// modifyRule replaces the conditions and the actions that it is given, completely.
func (s *Service) modifyRule(_ context.Context, c *api.Call, in *modifyRuleInput) (*rulesOutput, error) {
	r := s.in(c.Region)
	c.On(in.RuleArn)
	u, l, err := r.rule(in.RuleArn)
	if err != nil {
		return nil, err
	}
	changed := *u
	if in.Conditions != nil {
		if changed.Conditions, err = conditionsOf(in.Conditions); err != nil {
			return nil, err
		}
	}
	if in.Actions != nil {
		if changed.Forward, err = r.forwardOf(in.Actions, r.LoadBalancers[l.LoadBalancer], l.Protocol); err != nil {
			return nil, err
		}
	}
	*u = changed
	return &rulesOutput{[]ruleOut{u.describe()}}, s.routed(r, l)
}

type ruleInput struct {
	RuleArn string `wire:",,required"`
}

func (s *Service) deleteRule(_ context.Context, c *api.Call, in *ruleInput) (*succeeded, error) {
	r := s.in(c.Region)
	c.On(in.RuleArn)
	_, l, err := r.rule(in.RuleArn)
	if err != nil {
		return nil, err
	}
	delete(r.Rules, in.RuleArn)
	return &succeeded{}, s.routed(r, l)
}

type rulePriority struct {
	RuleArn  string `wire:",,required"`
	Priority *int   `wire:",,required"`
}

type setRulePrioritiesInput struct{ RulePriorities []rulePriority }

// setRulePriorities gives all of the rules their priorities, or none.
func (s *Service) setRulePriorities(_ context.Context, c *api.Call, in *setRulePrioritiesInput) (*rulesOutput, error) {
	r := s.in(c.Region)
	if len(in.RulePriorities) == 0 {
		return nil, invalid("At least one rule priority must be specified")
	}
	var arns []string
	var on *listener
	for i, p := range in.RulePriorities {
		c.On(p.RuleArn)
		_, l, err := r.rule(p.RuleArn)
		switch {
		case err != nil:
			return nil, err
		case on != nil && on != l:
			return nil, invalid("The rules must all be of one listener")
		case slices.Contains(arns, p.RuleArn) || slices.ContainsFunc(in.RulePriorities[:i], func(other rulePriority) bool { return *other.Priority == *p.Priority }):
			return nil, invalid("A rule or a priority is specified more than once")
		}
		arns, on = append(arns, p.RuleArn), l
	}
	for _, p := range in.RulePriorities {
		if err := r.free(on.ARN, *p.Priority, arns...); err != nil {
			return nil, err
		}
	}
	out := &rulesOutput{}
	for _, p := range in.RulePriorities {
		u := r.Rules[p.RuleArn]
		u.Priority = *p.Priority
		out.Rules = append(out.Rules, u.describe())
	}
	return out, s.routed(r, on)
}

// routed has the plane follow a listener's rules.
func (s *Service) routed(r *region, l *listener) error {
	if err := s.listen(r, l); err != nil {
		return err
	}
	s.inUseChanged(r)
	return nil
}

type describeRulesInput struct {
	paging
	ListenerArn string
	RuleArns    []string
}

type describeRulesOutput struct {
	Rules      []ruleOut
	NextMarker string
}

// describeRules lists rules by priority, the default one last.
func (s *Service) describeRules(_ context.Context, c *api.Call, in *describeRulesInput) (*describeRulesOutput, error) {
	r := s.in(c.Region)
	if (in.ListenerArn == "") == (len(in.RuleArns) == 0) {
		return nil, invalid("You must specify either rule ARNs or a listener ARN")
	}
	out := &describeRulesOutput{}
	if in.ListenerArn != "" {
		l, err := r.listener(in.ListenerArn)
		if err != nil {
			return nil, err
		}
		for _, u := range r.rulesOf(l.ARN) {
			out.Rules = append(out.Rules, u.describe())
		}
		out.Rules = append(out.Rules, l.describeDefault())
	}
	for _, arn := range in.RuleArns {
		u, ok := r.Rules[arn]
		l, isDefault := r.Listeners[listenerOfDefaultRule(arn)]
		switch {
		case ok:
			out.Rules = append(out.Rules, u.describe())
		case isDefault && defaultRule(l.ARN) == arn:
			out.Rules = append(out.Rules, l.describeDefault())
		default:
			return nil, wire.Errorf("RuleNotFound", "One or more rules not found: %s", arn)
		}
	}
	slices.SortFunc(out.Rules, func(a, b ruleOut) int { return strings.Compare(a.place(), b.place()) })
	var err error
	out.Rules, out.NextMarker, err = cut(out.Rules, in.paging, ruleOut.place)
	return out, err
}

// place is by priority, "default" being the last.
func (u ruleOut) place() string { return fmt.Sprintf("%9s %s", u.Priority, u.RuleArn) }

// defaultRule names the default rule of a listener: the listener's own number
// serves once more as the rule's.
func defaultRule(listener string) string {
	number := listener[strings.LastIndex(listener, "/"):]
	return strings.Replace(listener, ":listener/", ":listener-rule/", 1) + number
}

func listenerOfDefaultRule(arn string) string {
	i := strings.LastIndex(arn, "/")
	if i < 0 {
		return ""
	}
	return strings.Replace(arn[:i], ":listener-rule/", ":listener/", 1)
}
