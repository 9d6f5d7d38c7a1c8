package ec2

import (
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestDefaultVpcHasThreeSubnetsInThreeZones(t *testing.T) {
	w := newWorld(t)
	vpcs, err := w.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{Filters: []types.Filter{{Name: aws.String("is-default"), Values: []string{"true"}}}})
	if err != nil || len(vpcs.Vpcs) != 1 {
		t.Fatalf("VPCs %v, %v", vpcs, err)
	}
	subnets, err := w.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{*vpcs.Vpcs[0].VpcId}}}})
	if err != nil {
		t.Fatal(err)
	}
	zones, err := w.DescribeAvailabilityZones(t.Context(), &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"eu-west-1a euw1-az1", "eu-west-1b euw1-az2", "eu-west-1c euw1-az3"} {
		s, z := subnets.Subnets[n], zones.AvailabilityZones[n]
		if got := *s.AvailabilityZone + " " + *s.AvailabilityZoneId; got != want || *z.ZoneName+" "+*z.ZoneId != want || *s.AvailableIpAddressCount != 4091 {
			t.Errorf("subnet %d is in %s with %d addresses, want %s", n, got, *s.AvailableIpAddressCount, want)
		}
	}
	_, err = w.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-1"}})
	refused(t, err, "InvalidSubnetID.NotFound")
}

func TestDescribeRegions(t *testing.T) {
	w := newWorld(t)
	out, err := w.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{RegionNames: []string{"us-east-1"}})
	if err != nil || len(out.Regions) != 1 || *out.Regions[0].Endpoint != "ec2.us-east-1.amazonaws.com" {
		t.Errorf("got %v, %v", out, err)
	}
	_, err = w.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{RegionNames: []string{"mars-1"}})
	refused(t, err, "InvalidParameterValue")
	if all, err := w.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{}); err != nil || len(all.Regions) != 17 {
		t.Errorf("%d regions, %v", len(all.Regions), err)
	}
}

func TestInstanceTypesArePagedAndFiltered(t *testing.T) {
	w := newWorld(t)
	pages := ec2.NewDescribeInstanceTypesPaginator(w, &ec2.DescribeInstanceTypesInput{MaxResults: aws.Int32(5), Filters: []types.Filter{{Name: aws.String("processor-info.supported-architecture"), Values: []string{"arm64"}}}})
	count := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range page.InstanceTypes {
			count++
			if kind.ProcessorInfo.SupportedArchitectures[0] != types.ArchitectureTypeArm64 || kind.SupportedBootModes[0] != types.BootModeTypeUefi {
				t.Errorf("%s has %v and boots by %v", kind.InstanceType, kind.ProcessorInfo.SupportedArchitectures, kind.SupportedBootModes)
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d types for arm64", count)
	}
	_, err := w.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t9.huge"}})
	refused(t, err, "InvalidInstanceType")
}

func TestSecurityGroupRules(t *testing.T) {
	w := newWorld(t)
	made, err := w.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("web"), Description: aws.String("web")})
	if err != nil {
		t.Fatal(err)
	}
	describe := func() types.SecurityGroup {
		out, err := w.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*made.GroupId}})
		if err != nil {
			t.Fatal(err)
		}
		return out.SecurityGroups[0]
	}
	ssh := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.1/8")}}}
	self := types.IpPermission{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: made.GroupId}}}
	if _, err := w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: []types.IpPermission{ssh, self}}); err != nil {
		t.Fatal(err)
	}
	if got := describe(); len(got.IpPermissions) != 2 || *got.IpPermissions[0].IpRanges[0].CidrIp != "10.0.0.0/8" || *got.IpPermissionsEgress[0].IpProtocol != "-1" {
		t.Errorf("the group is %+v", got)
	}
	_, err = w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: []types.IpPermission{ssh}})
	refused(t, err, "InvalidPermission.Duplicate")
	if _, err := w.RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: []types.IpPermission{ssh}}); err != nil {
		t.Fatal(err)
	}
	_, err = w.RevokeSecurityGroupIngress(t.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: []types.IpPermission{ssh}})
	refused(t, err, "InvalidPermission.NotFound")
	_, err = w.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("web"), Description: aws.String("web")})
	refused(t, err, "InvalidGroup.Duplicate")
	_, err = w.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupName: aws.String("default")})
	refused(t, err, "CannotDelete")

	in := single(w.image("hello"))
	in.SecurityGroupIds = []string{*made.GroupId}
	id := w.run(in)[0]
	_, err = w.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: made.GroupId})
	refused(t, err, "DependencyViolation")
	if _, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilTerminated(id)
	if _, err := w.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: made.GroupId}); err != nil {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	a := newAddresses()
	small := netip.MustParsePrefix("10.0.0.0/28")
	seen := map[netip.Addr]bool{}
	for range 11 {
		address := a.give(small)
		if seen[address] || address.Less(netip.MustParseAddr("10.0.0.4")) || address == netip.MustParseAddr("10.0.0.15") {
			t.Errorf("gave %s", address)
		}
		seen[address] = true
	}
	if a.free(small) != 0 {
		t.Errorf("%d are free, want none", a.free(small))
	}
	five := netip.MustParseAddr("10.0.0.5")
	a.release(five, small)
	a.release(five, small)
	if got := a.give(small); got != five || a.free(small) != 0 {
		t.Errorf("gave %s, want the one that was given back", got)
	}
}
