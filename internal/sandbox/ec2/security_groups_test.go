package ec2

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestSecurityGroupsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	if _, err := w.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("web "), Description: aws.String("web")}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, description, code string }{
		{"web", "again", "InvalidGroup.Duplicate"},
		{"WEB", "again, in capitals", "InvalidGroup.Duplicate"},
		{"Default", "reserved", "InvalidGroup.Reserved"},
		{"sg-web", "looks like an ID", "InvalidParameterValue"},
		{"wéb", "letter", "InvalidParameterValue"},
		{strings.Repeat("x", 256), "long", "InvalidParameterValue"},
		{"new", "a <description>", "InvalidParameterValue"},
		{"new", strings.Repeat("x", 256), "InvalidParameterValue"},
	} {
		_, err := w.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: &test.name, Description: &test.description})
		refused(t, err, test.code)
	}
}

func TestRulesThatCannotBe(t *testing.T) {
	w := newWorld(t)
	everyone := []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}
	permission := func(protocol string, from, to int32) types.IpPermission {
		return types.IpPermission{IpProtocol: &protocol, FromPort: &from, ToPort: &to, IpRanges: everyone}
	}
	for name, test := range map[string]struct {
		permissions []types.IpPermission
		code        string
	}{
		"an unknown protocol":          {[]types.IpPermission{permission("sctpx", 1, 1)}, "InvalidParameterValue"},
		"a protocol that is no number": {[]types.IpPermission{permission("256", 1, 1)}, "InvalidParameterValue"},
		"TCP without ports":            {[]types.IpPermission{{IpProtocol: aws.String("tcp"), IpRanges: everyone}}, "InvalidParameterValue"},
		"ports backwards":              {[]types.IpPermission{permission("tcp", 90, 80)}, "InvalidParameterValue"},
		"a port too high":              {[]types.IpPermission{permission("udp", 1, 65536)}, "InvalidParameterValue"},
		"all ports as -1":              {[]types.IpPermission{permission("tcp", -1, -1)}, "InvalidParameterValue"},
		"a code of all ICMP types":     {[]types.IpPermission{permission("icmp", -1, 3)}, "InvalidParameterValue"},
		"an ICMP type too high":        {[]types.IpPermission{permission("1", 256, -1)}, "InvalidParameterValue"},
		"a CIDR block without a mask": {[]types.IpPermission{{
			IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.1")}},
		}}, "InvalidParameterValue"},
		"an IPv6 block as IPv4": {[]types.IpPermission{{
			IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("::/0")}},
		}}, "InvalidParameterValue"},
		"a description with a colon and a quote": {[]types.IpPermission{{
			IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8"), Description: aws.String(`"x"`)}},
		}}, "InvalidParameterValue"},
		"a prefix list": {[]types.IpPermission{{
			IpProtocol: aws.String("-1"), PrefixListIds: []types.PrefixListId{{PrefixListId: aws.String("pl-1")}},
		}}, "InvalidPrefixListID.NotFound"},
		"a group that is not there": {[]types.IpPermission{{
			IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String("sg-00000000000000000")}},
		}}, "InvalidGroup.NotFound"},
		"another account's group": {[]types.IpPermission{{
			IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String(fixedID("sg", "eu-west-1")), UserId: aws.String("111122223333")}},
		}}, "InvalidGroup.NotFound"},
		"nobody":     {[]types.IpPermission{{IpProtocol: aws.String("-1")}}, "MissingParameter"},
		"one twice":  {[]types.IpPermission{permission("tcp", 1, 2), permission("6", 1, 2)}, "InvalidParameterValue"},
		"one again":  {[]types.IpPermission{{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupName: aws.String("default")}}}}, "InvalidPermission.Duplicate"},
		"no request": {nil, "MissingParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupName: aws.String("default"), IpPermissions: test.permissions})
			refused(t, err, test.code)
		})
	}
}

func TestRulesAreDescribedAndRevokedByTheirID(t *testing.T) {
	w := newWorld(t)
	group := fixedID("sg", "eu-west-1")
	port, cidr := int32(443), "192.0.2.77/24"
	made, err := w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{
		{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, IpRanges: []types.IpRange{{CidrIp: &cidr, Description: aws.String("web")}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	id := made.SecurityGroupRules[0].SecurityGroupRuleId
	found, err := w.DescribeSecurityGroupRules(t.Context(), &ec2.DescribeSecurityGroupRulesInput{SecurityGroupRuleIds: []string{*id}})
	if err != nil || len(found.SecurityGroupRules) != 1 || *found.SecurityGroupRules[0].CidrIpv4 != "192.0.2.0/24" {
		t.Errorf("the rule is described as %+v, %v", found, err)
	}
	all, err := w.DescribeSecurityGroupRules(t.Context(), &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{{Name: aws.String("group-id"), Values: []string{group}}}})
	if err != nil || len(all.SecurityGroupRules) != 3 {
		t.Errorf("the group has the rules %+v, %v", all, err)
	}
	_, err = w.RevokeSecurityGroupEgress(t.Context(), &ec2.RevokeSecurityGroupEgressInput{GroupId: &group, SecurityGroupRuleIds: []string{*id}})
	refused(t, err, "InvalidSecurityGroupRuleId.NotFound")
	revoked, err := w.RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, SecurityGroupRuleIds: []string{*id}})
	if err != nil || len(revoked.RevokedSecurityGroupRules) != 1 || *revoked.RevokedSecurityGroupRules[0].Description != "web" {
		t.Errorf("revoked %+v, %v", revoked, err)
	}
	_, err = w.DescribeSecurityGroupRules(t.Context(), &ec2.DescribeSecurityGroupRulesInput{SecurityGroupRuleIds: []string{*id}})
	refused(t, err, "InvalidSecurityGroupRuleId.NotFound")
}

func TestAGroupThatIsUsedIsNotDeleted(t *testing.T) {
	w := newWorld(t)
	fleet := w.service.Fleet("eu-west-1")
	made, err := w.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("front"), Description: aws.String("front")})
	if err != nil {
		t.Fatal(err)
	}
	var node Interface
	w.books.Do(func() { node, err = fleet.AddInterface(fleet.Subnets()[0].ID, []string{*made.GroupId}) })
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: made.GroupId})
	refused(t, err, "DependencyViolation")
	w.books.Do(func() { fleet.RemoveInterface(node.ID) })

	user := types.IpPermission{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: made.GroupId}}}
	if _, err := w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupName: aws.String("default"), IpPermissions: []types.IpPermission{user}}); err != nil {
		t.Fatal(err)
	}
	_, err = w.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: made.GroupId})
	refused(t, err, "DependencyViolation")
	if _, err := w.RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupName: aws.String("default"), IpPermissions: []types.IpPermission{user}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: made.GroupId}); err != nil {
		t.Error(err)
	}
}
