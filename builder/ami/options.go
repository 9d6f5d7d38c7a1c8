// Package ami is what the builders that make an AMI have in common: the options
// that describe it, and the way to its name.
package ami

//go:generate go tool packer-sdc struct-markdown

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// Options describe the AMI that is made.
type Options struct {
	// The name of the AMI, which no other AMI of the account and region may
	// have: 3 to 128 letters, digits, spaces and `( ) [ ] . / - ' @ _`. The
	// template function `clean_resource_name` makes other characters dashes.
	AmiName string `mapstructure:"ami_name" required:"true"`
	// The description of the AMI and of its snapshot, cut at 255 characters. A
	// template, see [Build template data](#build-template-data).
	AmiDescription string `mapstructure:"ami_description" required:"false"`
	// The IDs of accounts that may launch instances of the AMI.
	AmiUsers []string `mapstructure:"ami_users" required:"false"`
	// The ARNs of organizations whose accounts may launch instances of the
	// AMI.
	AmiOrgArns []string `mapstructure:"ami_org_arns" required:"false"`
	// The ARNs of organizational units whose accounts may launch instances of
	// the AMI.
	AmiOuArns []string `mapstructure:"ami_ou_arns" required:"false"`
	// Tags of the AMI and its snapshot. Templates, see
	// [Build template data](#build-template-data).
	Tags map[string]string `mapstructure:"tags" required:"false"`
	// Tags of the snapshot, which win over `tags`. Templates too.
	SnapshotTags map[string]string `mapstructure:"snapshot_tags" required:"false"`
	// The IDs of accounts that may make volumes, and copies, of the snapshot.
	SnapshotUsers []string `mapstructure:"snapshot_users" required:"false"`
	// Whether the AMI's root snapshot is encrypted. Default: as the base's is,
	// or encrypted in an account that encrypts by default.
	EncryptBoot config.Trilean `mapstructure:"encrypt_boot" required:"false"`
	// The ID, alias or ARN of the KMS key to encrypt with; an ARN where
	// `source_image` is the base. Needs `encrypt_boot = true`. Default: the
	// account's default key for EBS.
	KmsKeyID string `mapstructure:"kms_key_id" required:"false"`
	// Replace an AMI of the same name. The old one is deregistered when all of
	// the new one but its registration is done. It is an error if instances of
	// the old one exist: names with a version in them are better. Default false.
	ForceDeregister bool `mapstructure:"force_deregister" required:"false"`
	// Delete the snapshots of the AMI that `force_deregister` replaced, once
	// the new one is available. Default false.
	ForceDeleteSnapshot bool `mapstructure:"force_delete_snapshot" required:"false"`
	// `v2.0` (the default) has instances answer metadata requests of IMDSv2
	// only; `legacy` those of version 1 too.
	ImdsSupport string `mapstructure:"imds_support" required:"false"`
	// `legacy-bios`, `uefi` or `uefi-preferred`. Default: that of the base.
	BootMode string `mapstructure:"boot_mode" required:"false"`
	// What the AMI is made of: if an available AMI of this account was built
	// with this key and with `reuse_files` of this content, on the base that is
	// found now, for the same architecture, it is the build's artifact, and
	// nothing is baked. See [Using an AMI again](#using-an-ami-again). Default:
	// the AMI is always baked.
	ReuseKey string `mapstructure:"reuse_key" required:"false"`
	// Files that the AMI is made of, such as `["dist/hello.rpm"]`. What is in
	// them is part of the key.
	ReuseFiles []string `mapstructure:"reuse_files" required:"false"`
	// When the AMI is to be deprecated, as `2026-12-31T00:00:00Z`; at most 10
	// years from now.
	DeprecateAt string `mapstructure:"deprecate_at" required:"false"`
	// The size of the root volume in GiB. The disk and its root filesystem are
	// grown to it before they are baked. Default: the size of the base's disk,
	// which is also the least.
	VolumeSize int64 `mapstructure:"volume_size" required:"false"`
	// The type of the root volume, such as `gp3`. Default: that of the base.
	VolumeType string `mapstructure:"volume_type" required:"false"`
	// The IOPS of the root volume, for the types that have a choice.
	Iops int32 `mapstructure:"iops" required:"false"`
	// The throughput of the root volume in MiB/s, for gp3.
	Throughput int32 `mapstructure:"throughput" required:"false"`

	deprecateAt time.Time
	key         string // of reuse_key and reuse_files
	ctx         interpolate.Context
}

// Decoding is how options with Options among them are decoded.
func (o *Options) Decoding(plugin string) *config.DecodeOpts {
	o.ctx.Funcs = template.FuncMap{"clean_resource_name": image.CleanName}
	return &config.DecodeOpts{
		PluginType:         plugin,
		Interpolate:        true,
		InterpolateContext: &o.ctx,
		// What these may speak of is known only once the base is found.
		InterpolateFilter: &interpolate.RenderFilter{Exclude: []string{"ami_description", "tags", "snapshot_tags"}},
	}
}

// Prepare checks the options, without a call to AWS. The source is what is known
// of the base.
func (o *Options) Prepare(source Source) []error {
	errs := o.prepareImage(source)
	errs = append(errs, o.prepareEncryption(source)...)
	errs = append(errs, o.prepareSharing()...)
	errs = append(errs, o.prepareVolume()...)
	errs = append(errs, o.prepareReuse(source)...)
	return append(errs, o.prepareTemplates()...)
}

// Source is what the options say of the base.
type Source struct {
	Architecture string
	// Local says that the base is a disk image and no AMI.
	Local bool
}

// Encryption is how the AMI's snapshots are to be encrypted.
func (o *Options) Encryption() image.Encryption {
	return image.Encryption{Wanted: o.EncryptBoot.ToBoolPointer(), Key: o.KmsKeyID}
}

// Volume says what the root volume of instances is like.
func (o *Options) Volume() image.Volume {
	return image.Volume{Size: int32(o.VolumeSize), Type: o.VolumeType, IOPS: o.Iops, Throughput: o.Throughput}
}

// IMDSv2 says that instances refuse metadata requests of version 1.
func (o *Options) IMDSv2() bool { return o.ImdsSupport == "v2.0" }

var bootModes = []string{"", "legacy-bios", "uefi", "uefi-preferred"}

func (o *Options) prepareImage(source Source) []error {
	var errs []error
	if o.AmiName == "" {
		errs = append(errs, fmt.Errorf("ami_name is not given; name the AMI, for example \"hello-1.2.0\""))
	} else if err := image.CheckName(o.AmiName); err != nil {
		errs = append(errs, err)
	}
	switch o.ImdsSupport {
	case "":
		o.ImdsSupport = "v2.0"
	case "v2.0", "legacy":
	default:
		errs = append(errs, fmt.Errorf("imds_support is %q; it is \"v2.0\" or \"legacy\"", o.ImdsSupport))
	}
	if !slices.Contains(bootModes, o.BootMode) {
		errs = append(errs, fmt.Errorf("boot_mode is %q; it is one of %q", o.BootMode, bootModes[1:]))
	}
	if source.Architecture == "arm64" && o.BootMode == "legacy-bios" {
		errs = append(errs, fmt.Errorf("boot_mode is \"legacy-bios\", which no arm64 instance has; leave it out or set it to \"uefi\""))
	}
	if o.ForceDeleteSnapshot && !o.ForceDeregister {
		errs = append(errs, fmt.Errorf("force_delete_snapshot is true without force_deregister, so that nothing would be deleted; set both or none"))
	}
	if o.DeprecateAt != "" {
		at, err := time.Parse(time.RFC3339, o.DeprecateAt)
		switch now := time.Now(); {
		case err != nil:
			errs = append(errs, fmt.Errorf("deprecate_at is %q, which is not a time; write it as 2026-12-31T00:00:00Z", o.DeprecateAt))
		case at.Before(now), at.After(now.AddDate(10, 0, 0)):
			errs = append(errs, fmt.Errorf("deprecate_at is %q; AWS allows a time from now to 10 years on", o.DeprecateAt))
		}
		o.deprecateAt = at
	}
	return errs
}

var (
	// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html, KmsKeyId
	keyPattern = regexp.MustCompile(`^(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:)?(key/)?(mrk-)?[0-9a-f-]{32,36}$|^(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:)?alias/[a-zA-Z0-9:/_-]+$`)
	account    = regexp.MustCompile(`^\d{12}$`)
	orgArn     = regexp.MustCompile(`^arn:aws[a-z-]*:organizations::\d{12}:organization/o-[a-z0-9]{10,32}$`)
	ouArn      = regexp.MustCompile(`^arn:aws[a-z-]*:organizations::\d{12}:ou/o-[a-z0-9]{10,32}/ou-[a-z0-9-]+$`)
)

func (o *Options) prepareEncryption(source Source) []error {
	if o.KmsKeyID == "" {
		return nil
	}
	var errs []error
	if !o.EncryptBoot.True() {
		errs = append(errs, fmt.Errorf("kms_key_id is given without encrypt_boot; set encrypt_boot = true, or leave kms_key_id out"))
	}
	if !keyPattern.MatchString(o.KmsKeyID) {
		errs = append(errs, fmt.Errorf("kms_key_id is %q; give a key's ID, its ARN, or alias/<name>", o.KmsKeyID))
	} else if source.Local && !strings.HasPrefix(o.KmsKeyID, "arn:") {
		errs = append(errs, fmt.Errorf("kms_key_id is %q; where source_image is the base, EBS wants the key's ARN", o.KmsKeyID))
	}
	return errs
}

func (o *Options) prepareSharing() []error {
	var errs []error
	for option, list := range map[string]struct {
		values []string
		like   *regexp.Regexp
		remedy string
	}{
		"ami_users":      {o.AmiUsers, account, "an account's ID, 12 digits"},
		"snapshot_users": {o.SnapshotUsers, account, "an account's ID, 12 digits"},
		"ami_org_arns":   {o.AmiOrgArns, orgArn, "an ARN such as arn:aws:organizations::123456789012:organization/o-exampleorgid"},
		"ami_ou_arns":    {o.AmiOuArns, ouArn, "an ARN such as arn:aws:organizations::123456789012:ou/o-exampleorgid/ou-exam-pleouid0"},
	} {
		for _, v := range list.values {
			if !list.like.MatchString(v) {
				errs = append(errs, fmt.Errorf("%s has %q; give %s", option, v, list.remedy))
			}
		}
	}
	shared := len(o.AmiUsers) + len(o.AmiOrgArns) + len(o.AmiOuArns) + len(o.SnapshotUsers)
	if shared > 0 && o.EncryptBoot.True() && o.KmsKeyID == "" {
		errs = append(errs, fmt.Errorf("the AMI is shared and encrypt_boot is true, but nobody else can use the account's default key; set kms_key_id to a key that the others may use"))
	}
	return errs
}

// volumeTypes are those that can be a root volume.
var volumeTypes = []string{"", "standard", "gp2", "gp3", "io1", "io2"}

func (o *Options) prepareVolume() []error {
	var errs []error
	if o.VolumeSize < 0 || o.VolumeSize > 64<<10 {
		errs = append(errs, fmt.Errorf("volume_size is %d; give the size of the root volume in GiB, from 1 to 65536", o.VolumeSize))
	}
	if !slices.Contains(volumeTypes, o.VolumeType) {
		errs = append(errs, fmt.Errorf("volume_type is %q; a root volume is one of %q", o.VolumeType, volumeTypes[1:]))
	}
	if o.Iops < 0 || (o.Iops > 0 && (o.VolumeType == "gp2" || o.VolumeType == "standard")) {
		errs = append(errs, fmt.Errorf("iops is %d, and volume_type %q has no choice of it; leave it out, or use gp3, io1 or io2", o.Iops, o.VolumeType))
	}
	if o.Iops == 0 && (o.VolumeType == "io1" || o.VolumeType == "io2") {
		errs = append(errs, fmt.Errorf("volume_type is %q, which needs iops; set iops, for example to 3000", o.VolumeType))
	}
	if o.Throughput < 0 || (o.Throughput > 0 && o.VolumeType != "" && o.VolumeType != "gp3") {
		errs = append(errs, fmt.Errorf("throughput is %d, and volume_type %q has no choice of it; leave it out, or use gp3", o.Throughput, o.VolumeType))
	}
	return errs
}

// prepareTemplates renders the templates with nothing in them, to find what is
// wrong in them, and what AWS would refuse of the tags, before the build.
func (o *Options) prepareTemplates() []error {
	texts, err := o.Render(Data{})
	if err != nil {
		return []error{err}
	}
	errs := append(tags.Check("tags", texts.Tags), tags.Check("snapshot_tags", texts.SnapshotTags)...)
	own := len(cloud.Run{}.Tags()) + len(o.reuseTags(""))
	if n := len(texts.SnapshotTags); n+own > tags.Max {
		errs = append(errs, fmt.Errorf("tags and snapshot_tags are %d together; EC2 allows %d, of which this builder needs %d", n, tags.Max, own))
	}
	return errs
}
