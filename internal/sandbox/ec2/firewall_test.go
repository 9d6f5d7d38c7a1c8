package ec2

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

func TestGroupsOfInstancesAreHandedToTheirHost(t *testing.T) {
	w := newWorld(t)
	made, err := w.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("web"), Description: aws.String("web")})
	if err != nil {
		t.Fatal(err)
	}
	permissions := []types.IpPermission{
		{IpProtocol: aws.String("6"), FromPort: aws.Int32(80), ToPort: aws.Int32(90), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}},
		{IpProtocol: aws.String("50"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: made.GroupId}}},
		{IpProtocol: aws.String("icmp"), FromPort: aws.Int32(-1), ToPort: aws.Int32(-1), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}},
		{IpProtocol: aws.String("icmp"), FromPort: aws.Int32(8), ToPort: aws.Int32(-1), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}},
		{IpProtocol: aws.String("icmp"), FromPort: aws.Int32(3), ToPort: aws.Int32(4), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}},
		{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}}, // there is no IPv6
	}
	if _, err := w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: permissions}); err != nil {
		t.Fatal(err)
	}
	in := single(w.image("hello"))
	in.SecurityGroupIds = []string{*made.GroupId}
	address := netip.MustParseAddr(*w.describeInstance(w.run(in)[0]).PrivateIpAddress)
	other := netip.MustParseAddr(*w.describeInstance(w.run(single(*in.ImageId))[0]).PrivateIpAddress)

	var groups []machine.Group
	w.books.Read(func() { groups = w.service.in("eu-west-1").machineGroups() })
	everything := []machine.Rule{{Peer: netip.MustParsePrefix("0.0.0.0/0")}}
	inside := netip.MustParsePrefix("10.0.0.0/8")
	standard := fixedID("sg", "eu-west-1")
	want := []machine.Group{
		{ID: standard, Members: []netip.Addr{other}, In: []machine.Rule{{PeerGroup: standard}}, Out: everything},
		{ID: *made.GroupId, Members: []netip.Addr{address}, Out: everything, In: []machine.Rule{
			{Protocol: 6, From: 80, To: 90, Peer: inside},
			{Protocol: 50, PeerGroup: *made.GroupId},
			{Protocol: 1, Peer: netip.MustParsePrefix("0.0.0.0/0")},
			{Protocol: 1, ICMP: &machine.ICMP{Type: 8}, Peer: inside},
			{Protocol: 1, ICMP: &machine.ICMP{Type: 3, Code: new(uint8(4))}, Peer: inside},
		}},
	}
	if !reflect.DeepEqual(groups, want) {
		t.Errorf("the groups are\n%+v, want\n%+v", groups, want)
	}
}
