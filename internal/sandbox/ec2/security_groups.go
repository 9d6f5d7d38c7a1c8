package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// securityGroup is a security group. What its rules let through, enforce sees to.
type securityGroup struct {
	resource
	Name, Description string
	Rules             []rule
}

// rule allows traffic from or to one peer: a range of addresses, a prefix list
// or another group.
type rule struct {
	Id                string
	IsEgress          bool
	IpProtocol        string // tcp, udp, icmp, icmpv6, a number, or -1 for all
	FromPort, ToPort  *int
	CidrIpv4          string
	CidrIpv6          string
	PrefixListId      string
	ReferencedGroupId string
	Description       string
	Tags              tags
}

// same tells whether two rules allow the same, whatever their description.
func (r rule) same(as rule) bool {
	return r.IsEgress == as.IsEgress && r.IpProtocol == as.IpProtocol && r.ports() == as.ports() && r.peer() == as.peer()
}

func (r rule) peer() string { return r.CidrIpv4 + r.CidrIpv6 + r.PrefixListId + r.ReferencedGroupId }

func (r rule) ports() string {
	if r.FromPort == nil || r.ToPort == nil {
		return "-1--1"
	}
	return fmt.Sprintf("%d-%d", *r.FromPort, *r.ToPort)
}

func (g *securityGroup) add(r rule) rule {
	r.Id = api.NewID("sgr")
	g.Rules = append(slices.Clone(g.Rules), r)
	return r
}

// newSecurityGroup makes a group that allows everything out, as AWS does.
func (r *region) newSecurityGroup(name, description string, with tags) *securityGroup {
	group := &securityGroup{resource: r.newResource("sg", with), Name: name, Description: description}
	group.add(rule{IsEgress: true, IpProtocol: "-1", CidrIpv4: "0.0.0.0/0"})
	return group
}

func (r *region) securityGroup(id string) (*securityGroup, error) {
	if err := wellFormed(id, "sg", "InvalidGroupId.Malformed"); err != nil {
		return nil, err
	}
	if group, ok := seen(r.SecurityGroups, id); ok {
		return group, nil
	}
	return nil, fail("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
}

func (r *region) securityGroupByName(name string) (*securityGroup, error) {
	if group := r.securityGroupNamed(name); group != nil && !group.unseen() {
		return group, nil
	}
	return nil, fail("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC '%s'", name, r.Vpc.Id)
}

// securityGroupNamed finds a group by its name, seen or not; nil if there is
// none.
func (r *region) securityGroupNamed(name string) *securityGroup {
	for _, group := range r.SecurityGroups {
		if group.Name == name {
			return group
		}
	}
	return nil
}

// securityGroupRef names a group, by id or, in the default VPC, by name.
type securityGroupRef struct {
	GroupId   string
	GroupName string
}

func (r *region) referred(ref securityGroupRef) (*securityGroup, error) {
	switch {
	case ref.GroupId != "" && ref.GroupName != "":
		return nil, fail("InvalidParameterCombination", "The parameters groupId and groupName cannot be used together.")
	case ref.GroupId != "":
		return r.securityGroup(ref.GroupId)
	case ref.GroupName != "":
		return r.securityGroupByName(ref.GroupName)
	}
	return nil, fail("MissingParameter", "The request must contain the parameter groupName or groupId")
}

type createSecurityGroupInput struct {
	Description       string             `wire:"GroupDescription,,required"`
	GroupName         string             `wire:",,required"`
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
	VpcId             string
}

type createSecurityGroupOutput struct {
	GroupId          string
	SecurityGroupArn string
	Tags             []tag `wire:",tagSet"`
}

func (r *region) createSecurityGroup(c *api.Call, in *createSecurityGroupInput) (*createSecurityGroupOutput, error) {
	if in.VpcId != "" {
		if _, err := r.vpc(in.VpcId); err != nil {
			return nil, err
		}
	}
	if len(in.GroupName) > 255 || strings.HasPrefix(in.GroupName, "sg-") {
		return nil, invalidValue(in.GroupName, "GroupName", "Names have at most 255 characters and do not begin with sg-.")
	}
	if len(in.Description) > 255 {
		return nil, invalidValue(in.Description, "GroupDescription", "Character count exceeds 255.")
	}
	tagged, err := specified(in.TagSpecifications, "security-group")
	if err != nil {
		return nil, err
	}
	c.On(r.arn("security-group", "*"), r.arn("vpc", r.Vpc.Id))
	r.tagOnCreate(c, tagged)
	if r.securityGroupNamed(in.GroupName) != nil {
		return nil, fail("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", in.GroupName, r.Vpc.Id)
	}
	group := r.newSecurityGroup(in.GroupName, in.Description, tagged["security-group"])
	r.SecurityGroups[group.Id] = group
	return &createSecurityGroupOutput{group.Id, r.arn("security-group", group.Id), group.Tags.wire()}, nil
}

type deleteSecurityGroupInput struct{ securityGroupRef }

type deleteSecurityGroupOutput struct {
	GroupId string
	Return  bool
}

func (r *region) deleteSecurityGroup(c *api.Call, in *deleteSecurityGroupInput) (*deleteSecurityGroupOutput, error) {
	group, err := r.referred(in.securityGroupRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("security-group", group.Id))
	if group.Name == "default" {
		return nil, fail("CannotDelete", `the specified group: "%s" name: "default" cannot be deleted by a user`, group.Id)
	}
	dependent := fail("DependencyViolation", "resource %s has a dependent object", group.Id)
	for _, i := range r.Instances {
		if i.State != Terminated && slices.Contains(i.SecurityGroupIds, group.Id) {
			return nil, dependent
		}
	}
	for _, i := range r.ServiceInterfaces {
		if slices.Contains(i.SecurityGroupIds, group.Id) {
			return nil, dependent
		}
	}
	for _, other := range r.SecurityGroups {
		if other != group && slices.ContainsFunc(other.Rules, func(rl rule) bool { return rl.ReferencedGroupId == group.Id }) {
			return nil, dependent
		}
	}
	delete(r.SecurityGroups, group.Id)
	return &deleteSecurityGroupOutput{group.Id, true}, nil
}

// ipPermission is what rules of one protocol and port range allow together.
type ipPermission struct {
	FromPort         *int
	IpProtocol       string
	IpRanges         []ipRange
	Ipv6Ranges       []ipv6Range
	PrefixListIds    []prefixList
	ToPort           *int
	UserIdGroupPairs []groupPair `wire:"Groups,groups"`
}

type ipRange struct{ CidrIp, Description string }

type ipv6Range struct{ CidrIpv6, Description string }

type prefixList struct{ Description, PrefixListId string }

type groupPair struct{ Description, GroupId, GroupName, UserId string }

// permissions groups rules as ipPermissions, in the order of the rules.
func permissions(rules []rule, egress bool) []ipPermission {
	byPort := map[string]int{}
	all := []ipPermission{}
	for _, rl := range rules {
		if rl.IsEgress != egress {
			continue
		}
		key := rl.IpProtocol + " " + rl.ports()
		at, known := byPort[key]
		if !known {
			at = len(all)
			byPort[key] = at
			all = append(all, ipPermission{FromPort: rl.FromPort, IpProtocol: rl.IpProtocol, ToPort: rl.ToPort})
		}
		p := &all[at]
		switch {
		case rl.CidrIpv4 != "":
			p.IpRanges = append(p.IpRanges, ipRange{rl.CidrIpv4, rl.Description})
		case rl.CidrIpv6 != "":
			p.Ipv6Ranges = append(p.Ipv6Ranges, ipv6Range{rl.CidrIpv6, rl.Description})
		case rl.PrefixListId != "":
			p.PrefixListIds = append(p.PrefixListIds, prefixList{rl.Description, rl.PrefixListId})
		default:
			p.UserIdGroupPairs = append(p.UserIdGroupPairs, groupPair{Description: rl.Description, GroupId: rl.ReferencedGroupId, UserId: api.Account})
		}
	}
	return all
}

// rules gives the rules that a permission stands for.
func (r *region) rules(p ipPermission, egress bool) ([]rule, error) {
	like := rule{IsEgress: egress, IpProtocol: strings.ToLower(p.IpProtocol), FromPort: p.FromPort, ToPort: p.ToPort}
	switch like.IpProtocol {
	case "":
		return nil, missing("ipProtocol")
	case "-1":
		like.FromPort, like.ToPort = nil, nil
	case "tcp", "udp", "6", "17":
		if p.FromPort == nil || p.ToPort == nil {
			return nil, fail("MissingParameter", "The request must contain the parameters fromPort and toPort")
		}
		if *p.FromPort < 0 || *p.ToPort > 65535 || *p.FromPort > *p.ToPort {
			return nil, fail("InvalidParameterValue", "Invalid TCP/UDP port range (%d:%d)", *p.FromPort, *p.ToPort)
		}
		like.IpProtocol = strings.NewReplacer("6", "tcp", "17", "udp").Replace(like.IpProtocol)
	}
	var rules []rule
	for _, peer := range p.IpRanges {
		network, err := netip.ParsePrefix(peer.CidrIp)
		if err != nil || !network.Addr().Is4() {
			return nil, fail("InvalidParameterValue", "CIDR block %s is malformed", peer.CidrIp)
		}
		one := like
		one.CidrIpv4, one.Description = network.Masked().String(), peer.Description
		rules = append(rules, one)
	}
	for _, peer := range p.Ipv6Ranges {
		network, err := netip.ParsePrefix(peer.CidrIpv6)
		if err != nil || !network.Addr().Is6() {
			return nil, fail("InvalidParameterValue", "CIDR block %s is malformed", peer.CidrIpv6)
		}
		one := like
		one.CidrIpv6, one.Description = network.Masked().String(), peer.Description
		rules = append(rules, one)
	}
	for _, peer := range p.PrefixListIds {
		one := like
		one.PrefixListId, one.Description = peer.PrefixListId, peer.Description
		rules = append(rules, one)
	}
	for _, peer := range p.UserIdGroupPairs {
		group, err := r.referred(securityGroupRef{peer.GroupId, peer.GroupName})
		if err != nil {
			return nil, err
		}
		one := like
		one.ReferencedGroupId, one.Description = group.Id, peer.Description
		rules = append(rules, one)
	}
	if len(rules) == 0 {
		return nil, fail("MissingParameter", "A permission must contain an address range, a prefix list or a group")
	}
	return rules, nil
}

// permissionsInput names rules: by permissions, or one by parameters of its own.
type permissionsInput struct {
	securityGroupRef
	CidrIp        string
	FromPort      *int
	IpPermissions []ipPermission
	IpProtocol    string
	ToPort        *int
}

func (in permissionsInput) permissions() ([]ipPermission, error) {
	if in.IpProtocol == "" && in.CidrIp == "" {
		if len(in.IpPermissions) == 0 {
			return nil, missing("ipPermissions")
		}
		return in.IpPermissions, nil
	}
	if len(in.IpPermissions) > 0 {
		return nil, fail("InvalidParameterCombination", "The parameter ipPermissions may not be used in combination with ipProtocol or cidrIp")
	}
	return []ipPermission{{FromPort: in.FromPort, IpProtocol: in.IpProtocol, IpRanges: []ipRange{{CidrIp: in.CidrIp}}, ToPort: in.ToPort}}, nil
}

func (r *region) namedRules(in permissionsInput, egress bool) ([]rule, error) {
	wanted, err := in.permissions()
	if err != nil {
		return nil, err
	}
	var rules []rule
	for _, p := range wanted {
		some, err := r.rules(p, egress)
		if err != nil {
			return nil, err
		}
		rules = append(rules, some...)
	}
	return rules, nil
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
	PrefixListId        string
	ReferencedGroupInfo *referencedGroup
	SecurityGroupRuleId string
	Tags                []tag `wire:",tagSet"`
	ToPort              *int
}

type referencedGroup struct{ GroupId, UserId string }

func (r rule) item(group string) ruleItem {
	it := ruleItem{
		CidrIpv4: r.CidrIpv4, CidrIpv6: r.CidrIpv6, Description: r.Description, FromPort: r.FromPort, GroupId: group,
		GroupOwnerId: api.Account, IpProtocol: r.IpProtocol, IsEgress: r.IsEgress, PrefixListId: r.PrefixListId,
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

func (r *region) revokeIngress(c *api.Call, in *revokeInput) (*succeeded, error) {
	return r.revoke(c, in, false)
}

func (r *region) revokeEgress(c *api.Call, in *revokeInput) (*succeeded, error) {
	return r.revoke(c, in, true)
}

func (r *region) revoke(c *api.Call, in *revokeInput, egress bool) (*succeeded, error) {
	group, err := r.referred(in.securityGroupRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("security-group", group.Id))
	kept := slices.Clone(group.Rules)
	for _, id := range in.SecurityGroupRuleIds {
		at := slices.IndexFunc(kept, func(rl rule) bool { return rl.Id == id && rl.IsEgress == egress })
		if at < 0 {
			return nil, fail("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
		}
		kept = slices.Delete(kept, at, at+1)
	}
	if len(in.SecurityGroupRuleIds) == 0 {
		rules, err := r.namedRules(in.permissionsInput, egress)
		if err != nil {
			return nil, err
		}
		for _, one := range rules {
			at := slices.IndexFunc(kept, one.same)
			if at < 0 {
				return nil, fail("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			kept = slices.Delete(kept, at, at+1)
		}
	}
	group.Rules = kept
	r.service.rulesChanged()
	return &succeeded{true}, nil
}

// securityGroupItem is a security group on the wire.
type securityGroupItem struct {
	Description         string `wire:",groupDescription"`
	GroupId             string
	GroupName           string
	IpPermissions       []ipPermission
	IpPermissionsEgress []ipPermission
	OwnerId             string
	SecurityGroupArn    string
	Tags                []tag `wire:",tagSet"`
	VpcId               string
}

func (r *region) securityGroupItem(g *securityGroup) securityGroupItem {
	return securityGroupItem{
		Description: g.Description, GroupId: g.Id, GroupName: g.Name, IpPermissions: permissions(g.Rules, false),
		IpPermissionsEgress: permissions(g.Rules, true), OwnerId: api.Account, SecurityGroupArn: r.arn("security-group", g.Id),
		Tags: g.Tags.wire(), VpcId: r.Vpc.Id,
	}
}

type describeSecurityGroupsInput struct {
	paging
	Filters    []filter `wire:"Filter"`
	GroupIds   []string `wire:"GroupId"`
	GroupNames []string `wire:"GroupName"`
}

type describeSecurityGroupsOutput struct {
	NextToken      string
	SecurityGroups []securityGroupItem `wire:",securityGroupInfo"`
}

var securityGroupFilters = filterable[securityGroupItem]{
	values: map[string]func(securityGroupItem) []string{
		"description": func(g securityGroupItem) []string { return []string{g.Description} },
		"group-id":    func(g securityGroupItem) []string { return []string{g.GroupId} },
		"group-name":  func(g securityGroupItem) []string { return []string{g.GroupName} },
		"owner-id":    func(g securityGroupItem) []string { return []string{g.OwnerId} },
		"vpc-id":      func(g securityGroupItem) []string { return []string{g.VpcId} },
	},
	tags: func(g securityGroupItem) tags { return tagMap(g.Tags) },
}

func (r *region) describeSecurityGroups(_ *api.Call, in *describeSecurityGroupsInput) (*describeSecurityGroupsOutput, error) {
	var ids []string
	for _, id := range in.GroupIds {
		if _, err := r.securityGroup(id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for _, name := range in.GroupNames {
		group, err := r.securityGroupByName(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, group.Id)
	}
	found, next, err := describe(ordered(r.SecurityGroups), ids, r.securityGroupItem,
		securityGroupFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeSecurityGroupsOutput{next, found}, err
}
