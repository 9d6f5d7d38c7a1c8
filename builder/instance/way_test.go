package instance

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// during is what there is while the provisioners run.
type during struct {
	types.Instance
	ingress []string // of its security group
	volume  types.Volume
}

// look builds as far as the provisioners, looks, and sees that nothing is left.
func (l *local) look(options map[string]any) (seen during) {
	l.t.Helper()
	ctx := l.t.Context()
	_, err := l.build(ctx, options, func(context.Context, map[string]any) error {
		all := l.instances()
		seen.Instance = all[len(all)-1]
		groups, err := l.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*seen.SecurityGroups[0].GroupId}})
		if err != nil {
			return err
		}
		for _, p := range groups.SecurityGroups[0].IpPermissions {
			for _, r := range p.IpRanges {
				seen.ingress = append(seen.ingress, *r.CidrIp)
			}
		}
		volumes, err := l.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*seen.BlockDeviceMappings[0].Ebs.VolumeId}})
		if err != nil {
			return err
		}
		seen.volume = volumes.Volumes[0]
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		l.t.Fatal(err)
	}
	l.assertLeft()
	return seen
}

func TestDefaults(t *testing.T) {
	l := openLocal(t)
	seen := l.look(nil)
	if seen.InstanceType != "t3.small" || seen.InstanceLifecycle != "" || aws.ToString(seen.KeyName) == "" {
		t.Errorf("launched %s, %q, with the key %q", seen.InstanceType, seen.InstanceLifecycle, aws.ToString(seen.KeyName))
	}
	if seen.MetadataOptions.HttpTokens != types.HttpTokensStateRequired {
		t.Errorf("the metadata service wants tokens: %s", seen.MetadataOptions.HttpTokens)
	}
	if !slices.Equal(seen.ingress, []string{"0.0.0.0/0"}) {
		t.Errorf("the security group lets in %q", seen.ingress)
	}
	if *seen.volume.Size != 8 || *seen.volume.Encrypted {
		t.Errorf("the root volume has %d GiB, encrypted %v", *seen.volume.Size, *seen.volume.Encrypted)
	}
}

func TestPrivateInstanceLetsTheVPCIn(t *testing.T) {
	l := openLocal(t)
	seen := l.look(map[string]any{"associate_public_ip_address": false})
	if !slices.Equal(seen.ingress, []string{"172.31.0.0/16"}) || seen.PublicIpAddress != nil {
		t.Errorf("the security group lets in %q; the public address is %q", seen.ingress, aws.ToString(seen.PublicIpAddress))
	}
}

func TestSourcesOfTheTemporaryGroup(t *testing.T) {
	l := openLocal(t)
	seen := l.look(map[string]any{"temporary_security_group_source_cidrs": []string{"203.0.113.0/24", "198.51.100.7/32"}})
	if slices.Sort(seen.ingress); !slices.Equal(seen.ingress, []string{"198.51.100.7/32", "203.0.113.0/24"}) {
		t.Errorf("the security group lets in %q", seen.ingress)
	}
}

func TestRootVolumeAsItIsWanted(t *testing.T) {
	l := openLocal(t)
	seen := l.look(map[string]any{"volume_size": 12, "volume_type": "io2", "iops": 4000, "encrypt_boot": true, "kms_key_id": "alias/hello"})
	v := seen.volume
	if *v.Size != 12 || v.VolumeType != types.VolumeTypeIo2 || *v.Iops != 4000 || !*v.Encrypted || aws.ToString(v.KmsKeyId) == "" {
		t.Errorf("the root volume is %+v", v)
	}
}

func TestRunTagsAreOnAllThatIsTemporary(t *testing.T) {
	l := openLocal(t)
	var kinds []types.ResourceType
	_, err := l.build(t.Context(), map[string]any{"run_tags": map[string]string{"job": "x"}}, func(context.Context, map[string]any) error {
		out, err := l.ec2.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("key"), Values: []string{"job"}}}})
		if err != nil {
			return err
		}
		for _, tag := range out.Tags {
			kinds = append(kinds, tag.ResourceType)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	slices.Sort(kinds)
	want := []types.ResourceType{"fleet", "instance", "key-pair", "network-interface", "security-group", "volume"}
	if !slices.Equal(kinds, want) {
		t.Errorf("tagged are %q, want %q", kinds, want)
	}
}

func TestOwnKeyAndGroups(t *testing.T) {
	l := openLocal(t)
	subnets, err := l.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := l.ec2.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("own"), Description: aws.String("own"), VpcId: subnets.Subnets[0].VpcId})
	if err != nil {
		t.Fatal(err)
	}
	key, err := l.ec2.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("own"), KeyType: types.KeyTypeEd25519})
	if err != nil {
		t.Fatal(err)
	}
	seen := l.look(map[string]any{
		"security_group_ids": []string{*own.GroupId}, "ssh_keypair_name": "own", "ssh_private_key_file": l.file(*key.KeyMaterial),
		"subnet_ids": []string{*subnets.Subnets[1].SubnetId},
	})
	if *seen.KeyName != "own" || *seen.SecurityGroups[0].GroupId != *own.GroupId || *seen.SubnetId != *subnets.Subnets[1].SubnetId {
		t.Errorf("launched with the key %q, in group %s and subnet %s", *seen.KeyName, *seen.SecurityGroups[0].GroupId, *seen.SubnetId)
	}
	if n := l.called("ImportKeyPair") + l.called("DeleteKeyPair") + l.called("DeleteSecurityGroup"); n > 0 {
		t.Errorf("%d calls make or delete a key or a group", n)
	}
}

func TestSubnetFilter(t *testing.T) {
	l := openLocal(t)
	subnets, err := l.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	if err != nil {
		t.Fatal(err)
	}
	wanted := *subnets.Subnets[2].SubnetId
	if _, err := l.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{wanted}, Tags: []types.Tag{{Key: aws.String("Tier"), Value: aws.String("build")}}}); err != nil {
		t.Fatal(err)
	}
	filter := func(tier string) map[string]any {
		return map[string]any{"subnet_filter": map[string]any{"filters": map[string]string{"tag:Tier": tier}}}
	}
	if seen := l.look(filter("build,none")); *seen.SubnetId != wanted {
		t.Errorf("launched in %s, want %s", *seen.SubnetId, wanted)
	}
	_, err = l.build(t.Context(), filter("none"), nil)
	says(t, err, "subnet_filter: no subnet in eu-west-1 matches", "widen it")
}

func TestInstanceConnectPushesAKey(t *testing.T) {
	l := openLocal(t)
	seen := l.look(map[string]any{"ssh_interface": "instance_connect"})
	if seen.KeyName != nil || l.called("SendSSHPublicKey") != 1 || l.called("ImportKeyPair") > 0 {
		t.Errorf("the key pair is %q, and %d keys were pushed", aws.ToString(seen.KeyName), l.called("SendSSHPublicKey"))
	}
}
