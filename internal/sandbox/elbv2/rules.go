package elbv2

import (
	"context"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type describeRulesInput struct {
	paging
	ListenerArn string
	RuleArns    []string
}

type describeRulesOutput struct {
	Rules      []rule
	NextMarker string
}

type rule struct {
	RuleArn    string
	Priority   string
	IsDefault  bool
	Conditions []struct{}
	Actions    []action
}

// describeRules lists the default rules, which are the listeners' default
// actions. There are no others here.
func (s *Service) describeRules(_ context.Context, c *api.Call, in *describeRulesInput) (*describeRulesOutput, error) {
	r := s.in(c.Region)
	arns := []string{in.ListenerArn}
	if (in.ListenerArn == "") == (len(in.RuleArns) == 0) {
		return nil, invalid("You must specify either rule ARNs or a listener ARN")
	}
	if in.ListenerArn == "" {
		arns = nil
		for _, arn := range in.RuleArns {
			arns = append(arns, listenerOfDefaultRule(arn))
		}
	}
	out := &describeRulesOutput{}
	for i, arn := range arns {
		l, err := r.listener(arn)
		if err != nil && in.ListenerArn == "" {
			return nil, wire.Errorf("RuleNotFound", "One or more rules not found: %s", in.RuleArns[i])
		}
		if err != nil {
			return nil, err
		}
		out.Rules = append(out.Rules, rule{
			RuleArn:    defaultRule(l.ARN),
			Priority:   "default",
			IsDefault:  true,
			Conditions: []struct{}{},
			Actions:    l.describe().DefaultActions,
		})
	}
	var err error
	out.Rules, out.NextMarker, err = cut(out.Rules, in.paging, func(r rule) string { return r.RuleArn })
	return out, err
}

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
