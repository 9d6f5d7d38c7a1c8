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
	DescribeSecurityGroups(context.Context, *ec2.DescribeSecurityGroupsInput, ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error)
	DeleteSecurityGroup(context.Context, *ec2.DeleteSecurityGroupInput, ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error)
}

// Key is a key pair. Of one that is the user's own only the name is known.
type Key struct {
	Name string
	born *cloud.Newborn
}

// KeyPair makes a key pair of a public key, in the format of authorized_keys.
// The private key never leaves this machine.
func (b Bakery) KeyPair(ctx context.Context, public []byte) (Key, error) {
	ctx, stop := begin(ctx)
	defer stop()
	name := b.name()
	_, err := b.EC2.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{
		KeyName: &name, PublicKeyMaterial: public, TagSpecifications: b.tagged(types.ResourceTypeKeyPair),
	})
	// A duplicate is one of this very run, whose answer was lost.
	if err != nil && cloud.Code(err) != "InvalidKeyPair.Duplicate" {
		return Key{}, fmt.Errorf("make a temporary key pair (ec2:ImportKeyPair): %w", err)
	}
	made := Key{name, cloud.Born()}
	b.Ladder.Add("delete key pair "+name, func(ctx context.Context) error { return b.deleteKey(ctx, made) })
	return made, nil
}

// deleteKey deletes a key pair. EC2 answers that it has done so also where it
// knows none of the name; only of one that it knew it tells the id.
func (b Bakery) deleteKey(ctx context.Context, k Key) error {
	return cloud.Wait(ctx, cloud.Until{What: "key pair " + k.Name + " is gone"}, func(ctx context.Context) (bool, string, error) {
		out, err := b.EC2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: &k.Name})
		if err = unless(err, "InvalidKeyPair.NotFound"); err != nil {
			return false, "", err
		}
		return out != nil && out.KeyPairId != nil || !k.born.MayAppear(), "it can't be found yet", nil
	})
}

// SecurityGroup makes a group in a VPC that lets the sources at a TCP port.
func (b Bakery) SecurityGroup(ctx context.Context, vpc string, port int32, sources []string) (id string, err error) {
	group, born, err := b.makeGroup(ctx, vpc)
	if err != nil {
		return "", fmt.Errorf("make a temporary security group in %s (ec2:CreateSecurityGroup): %w", vpc, err)
	}
	b.Ladder.Add("delete security group "+group, func(ctx context.Context) error { return b.deleteGroup(ctx, group, born) })
	var ranges []types.IpRange
	for _, cidr := range sources {
		ranges = append(ranges, types.IpRange{CidrIp: &cidr})
	}
	err = appearing(ctx, born, "security group "+group, func(ctx context.Context) error {
		_, err := b.EC2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
			GroupId:       &group,
			IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, IpRanges: ranges}},
		})
		return unless(err, "InvalidPermission.Duplicate")
	}, "InvalidGroup.NotFound")
	if err != nil {
		return "", fmt.Errorf("let %q at port %d of the temporary security group %s (ec2:AuthorizeSecurityGroupIngress): %w", sources, port, group, err)
	}
	return group, nil
}

// makeGroup makes a group that lets nobody in.
func (b Bakery) makeGroup(ctx context.Context, vpc string) (id string, born *cloud.Newborn, err error) {
	ctx, stop := begin(ctx)
	defer stop()
	name := b.name()
	out, err := b.EC2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: &name, VpcId: &vpc, Description: aws.String("Access to an instance that Packer bakes on"),
		TagSpecifications: b.tagged(types.ResourceTypeSecurityGroup),
	})
	if cloud.Code(err) == "InvalidGroup.Duplicate" {
		id, err = b.findGroup(ctx, vpc, name)
		return id, cloud.Born(), err
	}
	if err != nil {
		return "", nil, err
	}
	return *out.GroupId, cloud.Born(), nil
}

// findGroup finds the group that this very bake has made, when the answer to that
// was lost: nobody else gives one its name. It may show late.
func (b Bakery) findGroup(ctx context.Context, vpc, name string) (id string, err error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cloud.Visibility+cloud.AttemptTimeout)
	defer stop()
	until := cloud.Until{What: "security group " + name + " can be seen", Deadline: cloud.Visibility}
	err = cloud.Wait(ctx, until, func(ctx context.Context) (bool, string, error) {
		out, err := b.EC2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
			{Name: aws.String("group-name"), Values: []string{name}}, {Name: aws.String("vpc-id"), Values: []string{vpc}},
		}})
		if err != nil || len(out.SecurityGroups) == 0 {
			return false, "there is none", err
		}
		id = aws.ToString(out.SecurityGroups[0].GroupId)
		return true, "", nil
	})
	return id, err
}

// lingering is how long a group may seem to be in use by an instance that was
// terminated.
const lingering = 2 * time.Minute

func (b Bakery) deleteGroup(ctx context.Context, id string, born *cloud.Newborn) error {
	began := time.Now()
	return cloud.Wait(ctx, cloud.Until{What: "security group " + id + " is deleted"}, func(ctx context.Context) (bool, string, error) {
		_, err := b.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &id})
		switch code := cloud.Code(err); {
		case code == "DependencyViolation" && time.Since(began) < lingering:
			return false, err.Error(), nil
		case code == "InvalidGroup.NotFound":
			return !born.MayAppear(), err.Error(), nil
		}
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
