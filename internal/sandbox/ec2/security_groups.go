package ec2

import (
	"cmp"
	"regexp"
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

// defaultGroup is the name of the group that a VPC comes with.
const defaultGroup = "default"

// groupText is what names and descriptions of groups, and descriptions of rules,
// can be (CreateSecurityGroup).
var groupText = regexp.MustCompile(`^[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}$`)

func checkText(what, text string) error {
	if !groupText.MatchString(text) {
		return fail("InvalidParameterValue", "Invalid %s. Valid values are strings less than 256 characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*", what)
	}
	return nil
}

// securityGroupNamed finds a group by its name, in which case does not matter,
// seen or not; nil if there is none.
func (r *region) securityGroupNamed(name string) *securityGroup {
	for _, group := range r.SecurityGroups {
		if strings.EqualFold(group.Name, name) {
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
	in.GroupName = strings.TrimRight(in.GroupName, " ") // as AWS stores it
	if strings.HasPrefix(in.GroupName, "sg-") {
		return nil, invalidValue(in.GroupName, "GroupName", "Group names may not be in the format sg-*.")
	}
	if strings.EqualFold(in.GroupName, defaultGroup) {
		return nil, fail("InvalidGroup.Reserved", "Cannot use reserved security group name: %s", defaultGroup)
	}
	if err := cmp.Or(checkText("security group name", in.GroupName), checkText("security group description", in.Description)); err != nil {
		return nil, err
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
	if group.Name == defaultGroup {
		return nil, fail("CannotDelete", `the specified group: "%s" name: "%s" cannot be deleted by a user`, group.Id, defaultGroup)
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
