package instance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type places interface {
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
	DescribeVpcs(context.Context, *ec2.DescribeVpcsInput, ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error)
}

// Place is where an instance may run: subnets of one VPC, in the order in which
// they are tried.
type Place struct {
	VPC     string
	Subnets []types.Subnet
}

// Subnets looks up the subnets of the ids, in their order; or else those that
// the filters find, the one with the most free addresses first; or else those
// of the default VPC.
func (b Bakery) Subnets(ctx context.Context, ids []string, filters map[string]string) (Place, error) {
	request, option := subnetRequest(ids, filters)
	var found []types.Subnet
	pages := ec2.NewDescribeSubnetsPaginator(b.EC2, request)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return Place{}, fmt.Errorf("%s: look up subnets in %s (ec2:DescribeSubnets): %w", option, b.Region, err)
		}
		found = append(found, page.Subnets...)
	}
	if len(found) == 0 {
		if len(filters) == 0 {
			return Place{}, fmt.Errorf("region %s has no default VPC with subnets; name the subnets in subnet_ids, or find them with subnet_filter", b.Region)
		}
		return Place{}, fmt.Errorf("subnet_filter: no subnet in %s matches %v; widen it", b.Region, filters)
	}
	sortSubnets(found, ids)
	place := Place{VPC: aws.ToString(found[0].VpcId), Subnets: found}
	for _, s := range found {
		if vpc := aws.ToString(s.VpcId); vpc != place.VPC {
			return Place{}, fmt.Errorf("%s: subnets %s and %s are of two VPCs, %s and %s; keep those of one",
				option, aws.ToString(found[0].SubnetId), aws.ToString(s.SubnetId), place.VPC, vpc)
		}
	}
	return place, nil
}

func subnetRequest(ids []string, filters map[string]string) (*ec2.DescribeSubnetsInput, string) {
	if len(ids) > 0 {
		return &ec2.DescribeSubnetsInput{SubnetIds: ids}, "subnet_ids"
	}
	if len(filters) == 0 {
		return &ec2.DescribeSubnetsInput{Filters: []types.Filter{{Name: aws.String("default-for-az"), Values: []string{"true"}}}}, "subnet_ids"
	}
	var list []types.Filter
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		list = append(list, types.Filter{Name: aws.String(name), Values: strings.Split(filters[name], ",")})
	}
	return &ec2.DescribeSubnetsInput{Filters: list}, "subnet_filter"
}

func sortSubnets(subnets []types.Subnet, ids []string) {
	slices.SortFunc(subnets, func(a, b types.Subnet) int {
		return cmp.Or(
			cmp.Compare(slices.Index(ids, *a.SubnetId), slices.Index(ids, *b.SubnetId)),
			cmp.Compare(aws.ToInt32(b.AvailableIpAddressCount), aws.ToInt32(a.AvailableIpAddressCount)),
			cmp.Compare(*a.SubnetId, *b.SubnetId),
		)
	})
}

// Range is the VPC's own address range.
func (b Bakery) Range(ctx context.Context, vpc string) (cidr string, err error) {
	out, err := b.EC2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{vpc}})
	if err == nil && len(out.Vpcs) == 0 {
		err = errors.New("it does not exist")
	}
	if err != nil {
		return "", fmt.Errorf("look up VPC %s (ec2:DescribeVpcs): %w", vpc, err)
	}
	return aws.ToString(out.Vpcs[0].CidrBlock), nil
}
