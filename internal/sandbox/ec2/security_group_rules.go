package ec2

import (
	"fmt"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// rule allows traffic from or to one peer: a range of addresses or another
// group.
type rule struct {
	Id                string
	IsEgress          bool
	IpProtocol        string // tcp, udp, icmp, icmpv6, a number, or -1 for all
	FromPort, ToPort  *int
	CidrIpv4          string
	CidrIpv6          string
	ReferencedGroupId string
	Description       string
	Tags              tags
}

// same tells whether two rules allow the same, whatever their description.
func (r rule) same(as rule) bool {
	return r.IsEgress == as.IsEgress && r.IpProtocol == as.IpProtocol && r.ports() == as.ports() && r.peer() == as.peer()
}

func (r rule) peer() string { return r.CidrIpv4 + r.CidrIpv6 + r.ReferencedGroupId }

func (r rule) ports() string {
	if r.FromPort == nil || r.ToPort == nil {
		return "-1--1"
	}
	return fmt.Sprintf("%d-%d", *r.FromPort, *r.ToPort)
}

// ruleItem is a rule on the wire.
type ruleItem struct {
	CidrIpv4            string
	CidrIpv6            string
	Description         string
	FromPort            *int
	GroupId             string
	GroupOwnerId        string
	IpProtocol          string
	IsEgress            bool
	ReferencedGroupInfo *referencedGroup
	SecurityGroupRuleId string
	Tags                []tag `wire:",tagSet"`
	ToPort              *int
}

type referencedGroup struct{ GroupId, UserId string }

func (r rule) item(group string) ruleItem {
	it := ruleItem{
		CidrIpv4: r.CidrIpv4, CidrIpv6: r.CidrIpv6, Description: r.Description, FromPort: r.FromPort, GroupId: group,
		GroupOwnerId: api.Account, IpProtocol: r.IpProtocol, IsEgress: r.IsEgress,
		SecurityGroupRuleId: r.Id, Tags: r.Tags.wire(), ToPort: r.ToPort,
	}
	if r.ReferencedGroupId != "" {
		it.ReferencedGroupInfo = &referencedGroup{r.ReferencedGroupId, api.Account}
	}
	return it
}

type authorizeInput struct {
	permissionsInput
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
}

type authorizeOutput struct {
	Return             bool
	SecurityGroupRules []ruleItem `wire:",securityGroupRuleSet"`
}

func (r *region) authorizeIngress(c *api.Call, in *authorizeInput) (*authorizeOutput, error) {
	return r.authorize(c, in, false)
}

func (r *region) authorizeEgress(c *api.Call, in *authorizeInput) (*authorizeOutput, error) {
	return r.authorize(c, in, true)
}

func (r *region) authorize(c *api.Call, in *authorizeInput, egress bool) (*authorizeOutput, error) {
	group, err := r.referred(in.securityGroupRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("security-group", group.Id))
	tagged, err := specified(in.TagSpecifications, "security-group-rule")
	if err != nil {
		return nil, err
	}
	r.tagOnCreate(c, tagged)
	rules, err := r.namedRules(in.permissionsInput, egress)
	if err != nil {
		return nil, err
	}
	for _, one := range rules {
		if slices.ContainsFunc(group.Rules, one.same) {
			return nil, fail("InvalidPermission.Duplicate", `the specified rule "peer: %s, %s, from port: %d, to port: %d, ALLOW" already exists`,
				one.peer(), strings.ToUpper(one.IpProtocol), orZero(one.FromPort), orZero(one.ToPort))
		}
	}
	out := &authorizeOutput{Return: true}
	for _, one := range rules {
		one.Tags = tagged["security-group-rule"]
		out.SecurityGroupRules = append(out.SecurityGroupRules, group.add(one).item(group.Id))
	}
	r.service.rulesChanged()
	return out, nil
}

type revokeInput struct {
	permissionsInput
	SecurityGroupRuleIds []string `wire:"SecurityGroupRuleId"`
}

func (r *region) revokeIngress(c *api.Call, in *revokeInput) (*revokeOutput, error) {
	return r.revoke(c, in, false)
}

func (r *region) revokeEgress(c *api.Call, in *revokeInput) (*revokeOutput, error) {
	return r.revoke(c, in, true)
}

// revoke takes away all rules that are named, or none.
func (r *region) revoke(c *api.Call, in *revokeInput, egress bool) (*revokeOutput, error) {
	group, err := r.referred(in.securityGroupRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("security-group", group.Id))
	var named []rule
	if len(in.SecurityGroupRuleIds) == 0 {
		if named, err = r.namedRules(in.permissionsInput, egress); err != nil {
			return nil, err
		}
	}
	for _, id := range in.SecurityGroupRuleIds {
		at := slices.IndexFunc(group.Rules, func(one rule) bool { return one.Id == id && one.IsEgress == egress })
		if at < 0 {
			return nil, fail("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
		}
		named = append(named, group.Rules[at])
	}
	out, kept := &revokeOutput{Return: true}, slices.Clone(group.Rules)
	for _, one := range named {
		at := slices.IndexFunc(kept, one.same)
		if at < 0 {
			return nil, fail("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
		out.RevokedSecurityGroupRules = append(out.RevokedSecurityGroupRules, kept[at].revoked(group.Id))
		kept = slices.Delete(kept, at, at+1)
	}
	group.Rules = kept
	r.service.rulesChanged()
	return out, nil
}

type revokeOutput struct {
	Return                    bool
	RevokedSecurityGroupRules []revokedRule `wire:",revokedSecurityGroupRuleSet"`
}

// revokedRule is a rule that was taken away, on the wire.
type revokedRule struct {
	CidrIpv4            string
	CidrIpv6            string
	Description         string
	FromPort            *int
	GroupId             string
	IpProtocol          string
	IsEgress            bool
	ReferencedGroupId   string
	SecurityGroupRuleId string
	ToPort              *int
}

func (r rule) revoked(from string) revokedRule {
	return revokedRule{
		CidrIpv4: r.CidrIpv4, CidrIpv6: r.CidrIpv6, Description: r.Description, FromPort: r.FromPort, GroupId: from, IpProtocol: r.IpProtocol,
		IsEgress: r.IsEgress, ReferencedGroupId: r.ReferencedGroupId, SecurityGroupRuleId: r.Id, ToPort: r.ToPort,
	}
}

type describeSecurityGroupRulesInput struct {
	paging
	Filters              []filter `wire:"Filter"`
	SecurityGroupRuleIds []string `wire:"SecurityGroupRuleId"`
}

type describeSecurityGroupRulesOutput struct {
	NextToken          string
	SecurityGroupRules []ruleItem `wire:",securityGroupRuleSet"`
}

var securityGroupRuleFilters = filterable[ruleItem]{
	values: map[string]func(ruleItem) []string{
		"group-id":               func(r ruleItem) []string { return []string{r.GroupId} },
		"security-group-rule-id": func(r ruleItem) []string { return []string{r.SecurityGroupRuleId} },
	},
	tags: func(r ruleItem) tags { return tagMap(r.Tags) },
}

// groupRule is a rule and its group, as it is described.
type groupRule struct {
	resource
	item ruleItem
}

func (r *region) describeSecurityGroupRules(_ *api.Call, in *describeSecurityGroupRulesInput) (*describeSecurityGroupRulesOutput, error) {
	var all []*groupRule
	for _, group := range ordered(r.SecurityGroups) {
		if group.unseen() {
			continue
		}
		rules := slices.SortedFunc(slices.Values(group.Rules), func(a, b rule) int { return strings.Compare(a.Id, b.Id) })
		for _, one := range rules {
			all = append(all, &groupRule{resource{Id: one.Id, Sequence: group.Sequence}, one.item(group.Id)})
		}
	}
	for _, id := range in.SecurityGroupRuleIds {
		if !slices.ContainsFunc(all, func(one *groupRule) bool { return one.Id == id }) {
			return nil, fail("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
		}
	}
	found, next, err := describe(all, in.SecurityGroupRuleIds, func(one *groupRule) ruleItem { return one.item },
		securityGroupRuleFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeSecurityGroupRulesOutput{next, found}, err
}
