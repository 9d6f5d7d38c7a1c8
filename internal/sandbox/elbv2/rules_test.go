package elbv2_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

func pathIs(values ...string) types.RuleCondition {
	return types.RuleCondition{Field: new("path-pattern"), PathPatternConfig: &types.PathPatternConditionConfig{Values: values}}
}

func (b *balancing) rule(t *testing.T, listener string, priority int32, to string, conditions ...types.RuleCondition) string {
	t.Helper()
	return *must(b.CreateRule(t.Context(), &elb.CreateRuleInput{ListenerArn: &listener, Priority: &priority, Actions: forward(to), Conditions: conditions}))(t).Rules[0].RuleArn
}

// priorities lists the rules of a listener as "2:path 5:… default".
func (b *balancing) priorities(t *testing.T, listener string) string {
	t.Helper()
	var all []string
	pages := elb.NewDescribeRulesPaginator(b, &elb.DescribeRulesInput{ListenerArn: &listener, PageSize: new(int32(2))})
	for pages.HasMorePages() {
		for _, r := range must(pages.NextPage(t.Context()))(t).Rules {
			text := *r.Priority
			for _, c := range r.Conditions {
				text += ":" + strings.Join(c.Values, ",")
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, " ")
}

func TestRules(t *testing.T) {
	serve(t, func(t *testing.T, b *balancing) {
		ctx := t.Context()
		blue, green := b.targetGroup(t, "blue"), b.targetGroup(t, "green")
		lb := b.loadBalancer(t, "hello")
		listener := b.listener(t, lb.LoadBalancerArn, 80, blue)
		b.register(t, green, b.ids...)
		if got := b.health(t, green, b.ids[0]); got != "unused Target.NotInUse" {
			t.Errorf("health without a rule = %s", got)
		}
		later := b.rule(t, listener, 20, blue, pathIs("/old"))
		test := b.rule(t, listener, 10, green, pathIs("/test"), types.RuleCondition{Field: new("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: new("X-Stage"), Values: []string{"green"}}})
		if got := b.health(t, green, b.ids[0]); got != "initial Elb.InitialHealthChecking" {
			t.Errorf("health with a rule = %s", got)
		}
		if _, err := b.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &green}); code(err) != "ResourceInUse" {
			t.Errorf("deleting a target group of a rule gave %v", err)
		}
		if got, want := b.priorities(t, listener), "10:/test: 20:/old default"; got != want {
			t.Errorf("rules = %s, want %s", got, want)
		}
		must(b.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &test, Conditions: []types.RuleCondition{{Field: new("host-header"), Values: []string{"green.example.com"}}}}))(t)
		must(b.SetRulePriorities(ctx, &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: &test, Priority: new(int32(20))}, {RuleArn: &later, Priority: new(int32(10))}}}))(t)
		if got, want := b.priorities(t, listener), "10:/old 20:green.example.com default"; got != want {
			t.Errorf("rules = %s, want %s", got, want)
		}
		must(b.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{test}, Tags: []types.Tag{{Key: new("a"), Value: new("1")}}}))(t)
		must(b.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &test, Actions: forward(blue)}))(t)
		if got := b.health(t, green, b.ids[0]); got != "unused Target.NotInUse" {
			t.Errorf("health after the rule changed = %s", got)
		}
		must(b.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: &test}))(t)
		if _, err := b.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{test}}); code(err) != "RuleNotFound" {
			t.Errorf("describing a rule that is gone gave %v", err)
		}
		must(b.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: &listener}))(t)
		if _, err := b.DescribeRules(ctx, &elb.DescribeRulesInput{RuleArns: []string{later}}); code(err) != "RuleNotFound" {
			t.Errorf("describing a rule of a listener that is gone gave %v", err)
		}
	})
}

func TestRulesThatAreRefused(t *testing.T) {
	serve(t, func(t *testing.T, b *balancing) {
		ctx := t.Context()
		tg, other := b.targetGroup(t, "hello"), b.targetGroup(t, "other")
		lb, second := b.loadBalancer(t, "first"), b.loadBalancer(t, "second")
		listener, elsewhere := b.listener(t, lb.LoadBalancerArn, 80, tg), b.listener(t, second.LoadBalancerArn, 80, other)
		rule := b.rule(t, listener, 1, tg, pathIs("/"))
		rules := must(b.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &listener}))(t).Rules
		byDefault := rules[len(rules)-1].RuleArn
		for name, tc := range map[string]struct {
			want   string
			change func(*elb.CreateRuleInput)
		}{
			"a priority that is taken":   {"PriorityInUse", func(in *elb.CreateRuleInput) { in.Priority = new(int32(1)) }},
			"a priority of 50001":        {"ValidationError", func(in *elb.CreateRuleInput) { in.Priority = new(int32(50001)) }},
			"no condition":               {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions = []types.RuleCondition{} }},
			"a condition without values": {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions = []types.RuleCondition{pathIs()} }},
			"two conditions on the path": {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions = append(in.Conditions, pathIs("/c")) }},
			"six values":                 {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions[0] = pathIs("1", "2", "3", "4", "5", "6") }},
			"six wildcards":              {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions[0] = pathIs("******") }},
			"a value of 129 characters":  {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions[0] = pathIs(strings.Repeat("x", 129)) }},
			"a field that is not known":  {"ValidationError", func(in *elb.CreateRuleInput) { in.Conditions[0].Field = new("source-ip") }},
			"a header without a name": {"ValidationError", func(in *elb.CreateRuleInput) {
				in.Conditions[0] = types.RuleCondition{Field: new("http-header"), Values: []string{"x"}}
			}},
			"the host as a header": {"InvalidConfigurationRequest", func(in *elb.CreateRuleInput) {
				in.Conditions[0] = types.RuleCondition{Field: new("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: new("host"), Values: []string{"x"}}}
			}},
			"an action that is not known":  {"InvalidLoadBalancerAction", func(in *elb.CreateRuleInput) { in.Actions = []types.Action{{Type: types.ActionTypeEnumRedirect}} }},
			"six target groups":            {"TooManyUniqueTargetGroupsPerLoadBalancer", func(in *elb.CreateRuleInput) { in.Actions = forward(tg, tg, tg, tg, tg, tg) }},
			"a target group of another":    {"TargetGroupAssociationLimit", func(in *elb.CreateRuleInput) { in.Actions = forward(other) }},
			"a listener that is not there": {"ListenerNotFound", func(in *elb.CreateRuleInput) { in.ListenerArn = new("arn:none") }},
			"a weight of 1000":             {"ValidationError", func(in *elb.CreateRuleInput) { in.Actions[0].ForwardConfig.TargetGroups[0].Weight = new(int32(1000)) }},
			"stickiness, which is not known": {"InvalidLoadBalancerAction", func(in *elb.CreateRuleInput) {
				in.Actions[0].ForwardConfig.TargetGroupStickinessConfig = &types.TargetGroupStickinessConfig{Enabled: aws.Bool(true)}
			}},
		} {
			in := &elb.CreateRuleInput{ListenerArn: &listener, Priority: new(int32(2)), Actions: forward(tg), Conditions: []types.RuleCondition{pathIs("/a", "/b")}}
			tc.change(in)
			if _, err := b.CreateRule(ctx, in); code(err) != tc.want {
				t.Errorf("%s: %v, want %s", name, err, tc.want)
			}
		}
		far := b.rule(t, elsewhere, 1, other, pathIs("/"))
		near := b.rule(t, listener, 3, tg, pathIs("/near"))
		pair := func(arn string, priority int32) types.RulePriorityPair {
			return types.RulePriorityPair{RuleArn: &arn, Priority: &priority}
		}
		for name, tc := range map[string]struct {
			want  string
			pairs []types.RulePriorityPair
		}{
			"no rules":                 {"ValidationError", []types.RulePriorityPair{}},
			"a priority of another":    {"PriorityInUse", []types.RulePriorityPair{pair(rule, 3)}},
			"one priority for two":     {"ValidationError", []types.RulePriorityPair{pair(rule, 9), pair(near, 9)}},
			"rules of two listeners":   {"ValidationError", []types.RulePriorityPair{pair(rule, 8), pair(far, 9)}},
			"the default rule":         {"OperationNotPermitted", []types.RulePriorityPair{pair(*byDefault, 9)}},
			"a rule that is not there": {"RuleNotFound", []types.RulePriorityPair{pair("arn:none/x/y", 9)}},
		} {
			if _, err := b.SetRulePriorities(ctx, &elb.SetRulePrioritiesInput{RulePriorities: tc.pairs}); code(err) != tc.want {
				t.Errorf("priorities, %s: %v, want %s", name, err, tc.want)
			}
		}
		if _, err := b.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: byDefault}); code(err) != "OperationNotPermitted" {
			t.Errorf("deleting the default rule gave %v", err)
		}
		nlb := must(b.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("net"), Type: types.LoadBalancerTypeEnumNetwork, Subnets: []string{"subnet-a"}}))(t).LoadBalancers[0]
		tcp := must(b.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new("tcp"), Protocol: types.ProtocolEnumTcp, Port: new(int32(22)), VpcId: nlb.VpcId}))(t).TargetGroups[0].TargetGroupArn
		l := must(b.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: nlb.LoadBalancerArn, Protocol: types.ProtocolEnumTcp, Port: new(int32(22)), DefaultActions: forward(*tcp)}))(t).Listeners[0]
		if _, err := b.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: l.ListenerArn, Priority: new(int32(1)), Actions: forward(*tcp), Conditions: []types.RuleCondition{pathIs("/")}}); code(err) != "InvalidConfigurationRequest" {
			t.Errorf("a rule of a network load balancer gave %v", err)
		}
	})
}
