package instance

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,SubnetFilter

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/communicator"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// Config is what `source "immutable-instance"` takes.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	base.Source         `mapstructure:",squash"`
	ami.Options         `mapstructure:",squash"`
	cloud.Access        `mapstructure:",squash"`
	Comm                communicator.Config `mapstructure:",squash"`

	// The architecture of the base, and so of the instance and the AMI:
	// `x86_64` (the default) or `arm64`.
	Architecture string `mapstructure:"architecture" required:"false"`
	// The instance types to launch, in the order in which they are tried.
	// Default: `["t3.small", "t3a.small", "m7i-flex.large"]` for x86_64,
	// `["t4g.small", "m7g.medium"]` for arm64.
	InstanceTypes []string `mapstructure:"instance_types" required:"false"`
	// The IDs of the subnets to launch in, all of one VPC, in the order in
	// which they are tried. Default: the subnets of the default VPC.
	SubnetIds []string `mapstructure:"subnet_ids" required:"false"`
	// Finds the subnets to launch in, in place of `subnet_ids`. See
	// [Subnet Filter](#subnet-filter).
	SubnetFilter SubnetFilter `mapstructure:"subnet_filter" required:"false"`
	// Try Spot capacity first, in all types and subnets, and On-Demand last.
	// Default false: On-Demand alone.
	Spot bool `mapstructure:"spot" required:"false"`
	// The name or the ARN of the instance profile. Default: none.
	IamInstanceProfile string `mapstructure:"iam_instance_profile" required:"false"`
	// User data of the instance: at most 16 KB. It is not in the AMI, but may
	// leave its traces there; `immutable-seal` removes those of cloud-init.
	UserData string `mapstructure:"user_data" required:"false"`
	// A file with the user data, in place of `user_data`.
	UserDataFile string `mapstructure:"user_data_file" required:"false"`
	// Tags of the instance and of all else that exists only while the build
	// runs. Default: the name `Packer Builder`.
	RunTags map[string]string `mapstructure:"run_tags" required:"false"`

	// Whether the instance gets a public address. Default: as the subnet says.
	AssociatePublicIpAddress config.Trilean `mapstructure:"associate_public_ip_address" required:"false"`
	// How the instance is reached: `public_ip`, `private_ip`, `public_dns`,
	// `private_dns`, or `instance_connect`, for which the key is pushed by EC2
	// Instance Connect at each connection, to the public address if there is
	// one. Default: the public address if there is one, else the private one.
	SSHInterface string `mapstructure:"ssh_interface" required:"false"`
	// The security groups of the instance, which must let this machine at its
	// SSH port. Default: a temporary one.
	SecurityGroupIds []string `mapstructure:"security_group_ids" required:"false"`
	// From which addresses the temporary security group lets at the SSH port,
	// as IPv4 CIDR blocks. Default: `["0.0.0.0/0"]` for a public address, where
	// the temporary key alone protects the instance, and the range of the VPC
	// for a private one.
	TemporarySecurityGroupSourceCidrs []string `mapstructure:"temporary_security_group_source_cidrs" required:"false"`

	// `snapshot` (the default): the root volume's snapshot is registered with
	// the attributes of the base. `create_image`: CreateImage makes the AMI,
	// with all volumes and the attributes of the instance.
	ImageMethod string `mapstructure:"image_method" required:"false"`

	userData []byte
	ctx      interpolate.Context
}

// SubnetFilter finds subnets by the filters of EC2's
// [DescribeSubnets](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html):
//
// ```hcl
//
//	subnet_filter {
//	  filters = {
//	    "tag:Tier" = "build"
//	  }
//	}
//
// ```
type SubnetFilter struct {
	// Names and values of filters; several values are separated by commas.
	// The subnet with the most free addresses is tried first.
	Filters map[string]string `mapstructure:"filters" required:"false"`
}

// ConfigSpec is the HCL of Config.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare checks the options, without a call to AWS.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	c := &b.config
	if err := config.Decode(c, c.Decoding("immutable-instance"), raws...); err != nil {
		return nil, nil, err
	}
	// A secret must not get into a log, nor from there into another build.
	packersdk.LogSecretFilter.Set(c.SecretKey, c.Token, c.Comm.SSHPassword)

	c.setDefaults()
	errs := c.Source.Prepare(c.Architecture)
	errs = append(errs, c.Access.Prepare()...)
	errs = append(errs, c.Options.Prepare(ami.Source{Architecture: c.Architecture})...)
	errs = append(errs, c.prepareMachine()...)
	errs = append(errs, c.prepareWay()...)
	errs = append(errs, c.prepareUserData()...)
	if len(errs) > 0 {
		return nil, nil, packersdk.MultiErrorAppend(nil, errs...)
	}
	return append(slices.Clone(base.GeneratedNames), "InstanceID", "InstanceType"), nil, nil
}

// usual are the types of small, current and widely available instances.
var usual = map[string][]string{
	"x86_64": {"t3.small", "t3a.small", "m7i-flex.large"},
	"arm64":  {"t4g.small", "m7g.medium"},
}

func (c *Config) setDefaults() {
	if c.Architecture == "" {
		c.Architecture = "x86_64"
	}
	if len(c.InstanceTypes) == 0 {
		c.InstanceTypes = usual[c.Architecture]
	}
	if c.RunTags == nil {
		c.RunTags = map[string]string{"Name": "Packer Builder"}
	}
	if c.ImageMethod == "" {
		c.ImageMethod = methodSnapshot
	}
	if c.Comm.SSHUsername == "" {
		c.Comm.SSHUsername = "ec2-user"
	}
}

// The values of image_method.
const (
	methodSnapshot = "snapshot"
	methodImage    = "create_image"
)

func (c *Config) prepareMachine() []error {
	var errs []error
	if c.ImageMethod != methodSnapshot && c.ImageMethod != methodImage {
		errs = append(errs, fmt.Errorf("image_method is %q; it is %q or %q", c.ImageMethod, methodSnapshot, methodImage))
	}
	if c.ImageMethod == methodImage && c.BootMode != "" {
		errs = append(errs, errors.New("boot_mode is given with image_method = \"create_image\", which takes it from the base; leave boot_mode out, or use image_method = \"snapshot\""))
	}
	if len(c.SubnetIds) > 0 && len(c.SubnetFilter.Filters) > 0 {
		errs = append(errs, errors.New("subnet_ids and subnet_filter are given together; keep one of them"))
	}
	for option, list := range map[string]struct {
		values []string
		like   *regexp.Regexp
		remedy string
	}{
		"subnet_ids":         {c.SubnetIds, subnetID, "the ID of a subnet, such as subnet-0123456789abcdef0"},
		"security_group_ids": {c.SecurityGroupIds, groupID, "the ID of a security group, such as sg-0123456789abcdef0"},
		"instance_types":     {c.InstanceTypes, instanceType, "an instance type such as t3.small"},
	} {
		for _, v := range list.values {
			if !list.like.MatchString(v) {
				errs = append(errs, fmt.Errorf("%s has %q; give %s", option, v, list.remedy))
			}
		}
	}
	return append(errs, tags.Check("run_tags", c.RunTags)...)
}

var (
	subnetID     = regexp.MustCompile(`^subnet-([0-9a-f]{8}|[0-9a-f]{17})$`)
	groupID      = regexp.MustCompile(`^sg-([0-9a-f]{8}|[0-9a-f]{17})$`)
	instanceType = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+$`)
)

// byConnect is the value of ssh_interface for EC2 Instance Connect.
const byConnect = "instance_connect"

var interfaces = []string{"", "public_ip", "private_ip", "public_dns", "private_dns", byConnect}

// prepareWay checks how the instance is reached.
func (c *Config) prepareWay() []error {
	var errs []error
	if c.Comm.Type != "" && c.Comm.Type != "ssh" {
		return []error{fmt.Errorf("communicator is %q; this builder works over \"ssh\"", c.Comm.Type)}
	}
	if !slices.Contains(interfaces, c.SSHInterface) {
		errs = append(errs, fmt.Errorf("ssh_interface is %q; it is one of %q", c.SSHInterface, interfaces[1:]))
	}
	if c.SSHInterface == byConnect && c.ownKey() {
		errs = append(errs, errors.New("ssh_interface is \"instance_connect\" together with a key or a password of your own; a temporary key is pushed, so leave the other out"))
	}
	if c.Comm.SSHKeyPairName != "" && c.Comm.SSHPrivateKeyFile == "" && !c.Comm.SSHAgentAuth {
		errs = append(errs, fmt.Errorf("ssh_keypair_name is %q, and nothing gives its private key; set ssh_private_key_file, or ssh_agent_auth = true", c.Comm.SSHKeyPairName))
	}
	if len(c.SecurityGroupIds) > 0 && len(c.TemporarySecurityGroupSourceCidrs) > 0 {
		errs = append(errs, errors.New("security_group_ids and temporary_security_group_source_cidrs are given together; with groups of your own there is no temporary one"))
	}
	for _, cidr := range c.TemporarySecurityGroupSourceCidrs {
		if prefix, err := netip.ParsePrefix(cidr); err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() {
			errs = append(errs, fmt.Errorf("temporary_security_group_source_cidrs has %q; give IPv4 CIDR blocks such as 203.0.113.0/24", cidr))
		}
	}
	return append(errs, c.Comm.Prepare(&c.ctx)...)
}

// ownKey says whether the instance is entered with a key of the user's.
func (c *Config) ownKey() bool {
	return c.Comm.SSHPrivateKeyFile != "" || c.Comm.SSHAgentAuth || c.Comm.SSHPassword != "" || c.Comm.SSHKeyPairName != ""
}

// longestUserData is EC2's limit, before encoding
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html).
const longestUserData = 16 << 10

func (c *Config) prepareUserData() []error {
	option := "user_data"
	c.userData = []byte(c.UserData)
	if c.UserDataFile != "" {
		if c.UserData != "" {
			return []error{errors.New("user_data and user_data_file are given together; keep one of them")}
		}
		option = "user_data_file"
		var err error
		if c.userData, err = os.ReadFile(c.UserDataFile); err != nil {
			return []error{fmt.Errorf("user_data_file: %w", err)}
		}
	}
	if n := len(c.userData); n > longestUserData {
		return []error{fmt.Errorf("%s has %d bytes; EC2 allows %d: have it fetch the rest", option, n, longestUserData)}
	}
	return nil
}
