package instance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

type keys interface {
	ImportKeyPair(context.Context, *ec2.ImportKeyPairInput, ...func(*ec2.Options)) (*ec2.ImportKeyPairOutput, error)
	DeleteKeyPair(context.Context, *ec2.DeleteKeyPairInput, ...func(*ec2.Options)) (*ec2.DeleteKeyPairOutput, error)
}

type groups interface {
	CreateSecurityGroup(context.Context, *ec2.CreateSecurityGroupInput, ...func(*ec2.Options)) (*ec2.CreateSecurityGroupOutput, error)
	AuthorizeSecurityGroupIngress(context.Context, *ec2.AuthorizeSecurityGroupIngressInput, ...func(*ec2.Options)) (*ec2.AuthorizeSecurityGroupIngressOutput, error)
	DeleteSecurityGroup(context.Context, *ec2.DeleteSecurityGroupInput, ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error)
}

// KeyPair makes a key pair of a public key, in the format of authorized_keys.
// The private key never leaves this machine.
func (b Bakery) KeyPair(ctx context.Context, public []byte) (name string, err error) {
	ctx, stop := begin(ctx)
	defer stop()
	name = b.name()
	out, err := b.EC2.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{
		KeyName: &name, PublicKeyMaterial: public, TagSpecifications: b.tagged(types.ResourceTypeKeyPair),
	})
	// A duplicate is one of this very run, whose answer was lost.
	if err != nil && cloud.Code(err) != "InvalidKeyPair.Duplicate" {
		return "", fmt.Errorf("make a temporary key pair (ec2:ImportKeyPair): %w", err)
	}
	request := &ec2.DeleteKeyPairInput{KeyName: &name}
	if out != nil {
		request = &ec2.DeleteKeyPairInput{KeyPairId: out.KeyPairId}
	}
	b.Ladder.Add("delete key pair "+name, func(ctx context.Context) error {
		_, err := b.EC2.DeleteKeyPair(ctx, request)
		return unless(err, "InvalidKeyPair.NotFound")
	})
	return name, nil
}

// SecurityGroup makes a group in a VPC that lets the sources at a TCP port.
func (b Bakery) SecurityGroup(ctx context.Context, vpc string, port int32, sources []string) (id string, err error) {
	ctx, stop := begin(ctx)
	defer stop()
	name := b.name()
	out, err := b.EC2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: &name, VpcId: &vpc, Description: aws.String("Access to an instance that Packer bakes on"),
		TagSpecifications: b.tagged(types.ResourceTypeSecurityGroup),
	})
	if err != nil {
		return "", fmt.Errorf("make a temporary security group in %s (ec2:CreateSecurityGroup): %w", vpc, err)
	}
	group := *out.GroupId
	b.Ladder.Add("delete security group "+group, func(ctx context.Context) error { return b.deleteGroup(ctx, group) })
	var ranges []types.IpRange
	for _, cidr := range sources {
		ranges = append(ranges, types.IpRange{CidrIp: &cidr})
	}
	_, err = b.EC2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId:       &group,
		IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, IpRanges: ranges}},
	})
	if err := unless(err, "InvalidPermission.Duplicate"); err != nil {
		return "", fmt.Errorf("let %q at port %d of the temporary security group %s (ec2:AuthorizeSecurityGroupIngress): %w", sources, port, group, err)
	}
	return group, nil
}

// lingering is how long a group may seem to be in use by an instance that was
// terminated.
const lingering = 2 * time.Minute

func (b Bakery) deleteGroup(ctx context.Context, id string) error {
	began := time.Now()
	return cloud.Wait(ctx, cloud.Until{What: "security group " + id + " is deleted"}, func(ctx context.Context) (bool, string, error) {
		_, err := b.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &id})
		if cloud.Code(err) == "DependencyViolation" && time.Since(began) < lingering {
			return false, err.Error(), nil
		}
		err = unless(err, "InvalidGroup.NotFound")
		return err == nil, "", err
	})
}

// unless drops an error of one of the codes.
func unless(err error, codes ...string) error {
	if slices.Contains(codes, cloud.Code(err)) {
		return nil
	}
	return err
}
