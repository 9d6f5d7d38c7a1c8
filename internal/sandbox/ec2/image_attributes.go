package ec2

import (
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

type attributeValue struct{ Value string }

type launchPermissionChange struct {
	Add    []launchPermission
	Remove []launchPermission
}

// modifyImageAttributeInput changes one attribute: by the parameter that is
// called after it, or by Attribute with Value, or for launchPermission with
// OperationType and lists of whom it is about.
type modifyImageAttributeInput struct {
	Attribute              string
	Description            *attributeValue
	ImageId                string `wire:",,required"`
	ImdsSupport            *attributeValue
	LaunchPermission       *launchPermissionChange
	OperationType          string
	OrganizationalUnitArns []string `wire:"OrganizationalUnitArn"`
	OrganizationArns       []string `wire:"OrganizationArn"`
	UserGroups             []string `wire:"UserGroup"`
	UserIds                []string `wire:"UserId"`
	Value                  string
}

func (r *region) modifyImageAttribute(c *api.Call, in *modifyImageAttributeInput) (*succeeded, error) {
	i, err := r.ownImage(c, in.ImageId)
	if err != nil {
		return nil, err
	}
	if i.State != imageAvailable {
		return nil, fail("InvalidAMIID.Unavailable", "The image ID '%s' is not available: it is %s", i.Id, i.State)
	}
	if err := in.spellOut(); err != nil {
		return nil, err
	}
	given := 0
	for _, is := range []bool{in.Description != nil, in.ImdsSupport != nil, in.LaunchPermission != nil} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, fail("MissingParameter", "No attributes specified.")
	case given > 1:
		return nil, fail("InvalidParameterCombination", "Fields for multiple attribute types specified.")
	case in.Description != nil:
		if err := checkDescription(in.Description.Value); err != nil {
			return nil, err
		}
		i.Description = in.Description.Value
	case in.ImdsSupport != nil:
		if in.ImdsSupport.Value != "v2.0" {
			return nil, invalidValue(in.ImdsSupport.Value, "imdsSupport", "Expected 'v2.0'.")
		}
		i.ImdsSupport = in.ImdsSupport.Value
	default:
		return r.permitLaunch(i, in.LaunchPermission)
	}
	return &succeeded{true}, nil
}

// spellOut turns the older form of the request into the newer. Lists without an
// operation count for nothing beside a LaunchPermission that names the same
// people: the amazon plugin sends both
// (https://github.com/hashicorp/packer-plugin-amazon/blob/v1.3.2/builder/common/step_modify_ami_attributes.go).
func (in *modifyImageAttributeInput) spellOut() error {
	listed := len(in.OrganizationalUnitArns)+len(in.OrganizationArns)+len(in.UserGroups)+len(in.UserIds) > 0
	switch in.Attribute {
	case "description":
		if in.Value != "" {
			in.Description = &attributeValue{in.Value}
		}
	case "imdsSupport":
		if in.Value != "" {
			in.ImdsSupport = &attributeValue{in.Value}
		}
	case "", "launchPermission":
	default:
		return invalidValue(in.Attribute, "attribute", "The sandbox knows the attributes 'description', 'imdsSupport' and 'launchPermission'.")
	}
	if !listed || in.OperationType == "" && in.LaunchPermission != nil {
		return nil
	}
	var people []launchPermission
	for _, id := range in.UserIds {
		people = append(people, launchPermission{UserId: id})
	}
	for _, group := range in.UserGroups {
		people = append(people, launchPermission{Group: group})
	}
	for _, arn := range in.OrganizationArns {
		people = append(people, launchPermission{OrganizationArn: arn})
	}
	for _, arn := range in.OrganizationalUnitArns {
		people = append(people, launchPermission{OrganizationalUnitArn: arn})
	}
	if in.LaunchPermission == nil {
		in.LaunchPermission = &launchPermissionChange{}
	}
	switch in.OperationType {
	case "add":
		in.LaunchPermission.Add = append(in.LaunchPermission.Add, people...)
	case "remove":
		in.LaunchPermission.Remove = append(in.LaunchPermission.Remove, people...)
	default:
		return invalidValue(in.OperationType, "operationType", "Expected 'add' or 'remove'.")
	}
	return nil
}

// permitLaunch changes who may launch an image.
func (r *region) permitLaunch(i *image, change *launchPermissionChange) (*succeeded, error) {
	if len(change.Add)+len(change.Remove) == 0 {
		return nil, fail("InvalidParameterCombination", "No operation specified for launchPermission attribute.")
	}
	for _, p := range slices.Concat(change.Add, change.Remove) {
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	for _, p := range change.Add {
		if err := r.shareable(i, p); err != nil {
			return nil, err
		}
	}
	permissions := slices.Clone(i.Permissions)
	for _, p := range change.Add {
		if !slices.Contains(permissions, p) {
			permissions = append(permissions, p)
		}
	}
	i.Permissions = slices.DeleteFunc(permissions, func(p launchPermission) bool { return slices.Contains(change.Remove, p) })
	return &succeeded{true}, nil
}

// shareable refuses to share an image whose snapshots others could not read:
// one with an encrypted snapshot cannot be public, and one encrypted with the
// key that AWS manages cannot be shared at all
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharingamis-explicit.html,
// https://github.com/hashicorp/packer/issues/7410).
func (r *region) shareable(i *image, with launchPermission) error {
	for _, id := range i.snapshots() {
		s := r.service.store.In(r.name).Snapshots[id]
		switch {
		case s == nil || !s.Encrypted:
		case with.Group != "":
			return fail("InvalidParameterValue", "Image %s has an encrypted snapshot and cannot be made public.", i.Id)
		case s.KmsKeyId == r.defaultKey():
			return fail("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.")
		}
	}
	return nil
}

func (p launchPermission) check() error {
	switch {
	case p.UserId != "" && !accountNumber.MatchString(p.UserId):
		return fail("InvalidAMIAttributeItemValue", `Invalid attribute item value "%s" for userId item type.`, p.UserId)
	case p.Group != "" && p.Group != "all":
		return fail("InvalidAMIAttributeItemValue", `Invalid attribute item value "%s" for group item type.`, p.Group)
	case p.OrganizationArn != "" && !strings.HasPrefix(p.OrganizationArn, "arn:aws:organizations::"):
		return fail("InvalidAMIAttributeItemValue", `Invalid attribute item value "%s" for organizationArn item type.`, p.OrganizationArn)
	case p.OrganizationalUnitArn != "" && !strings.HasPrefix(p.OrganizationalUnitArn, "arn:aws:organizations::"):
		return fail("InvalidAMIAttributeItemValue", `Invalid attribute item value "%s" for organizationalUnitArn item type.`, p.OrganizationalUnitArn)
	case p == launchPermission{}:
		return fail("InvalidParameterValue", "A launch permission must name a group, a user, an organization or an organizational unit.")
	}
	return nil
}

type resetImageAttributeInput struct {
	Attribute string `wire:",,required"`
	ImageId   string `wire:",,required"`
}

func (r *region) resetImageAttribute(c *api.Call, in *resetImageAttributeInput) (*succeeded, error) {
	i, err := r.ownImage(c, in.ImageId)
	if err != nil {
		return nil, err
	}
	if in.Attribute != "launchPermission" {
		return nil, invalidValue(in.Attribute, "attribute", "Only 'launchPermission' can be reset.")
	}
	i.Permissions = nil
	return &succeeded{true}, nil
}

type describeImageAttributeInput struct {
	Attribute string `wire:",,required"`
	ImageId   string `wire:",,required"`
}

// describeImageAttributeOutput has one attribute, which has no value where the
// image has none.
type describeImageAttributeOutput struct {
	BootMode          *attributeValue
	Description       *attributeValue
	ImageId           string
	ImdsSupport       *attributeValue
	LastLaunchedTime  *attributeValue
	LaunchPermissions []launchPermission `wire:",launchPermission"`
	SriovNetSupport   *attributeValue
	TpmSupport        *attributeValue
	UefiData          *attributeValue
}

func (r *region) describeImageAttribute(c *api.Call, in *describeImageAttributeInput) (*describeImageAttributeOutput, error) {
	i, err := r.ownImage(c, in.ImageId)
	if err != nil {
		return nil, err
	}
	out := &describeImageAttributeOutput{ImageId: i.Id}
	value := func(text string) *attributeValue { return &attributeValue{text} }
	switch in.Attribute {
	case "bootMode":
		out.BootMode = value(i.BootMode)
	case "description":
		out.Description = value(i.Description)
	case "imdsSupport":
		out.ImdsSupport = value(i.ImdsSupport)
	case "lastLaunchedTime":
		out.LastLaunchedTime = value("")
		if !i.Launched.IsZero() {
			out.LastLaunchedTime = value(stamp(i.Launched))
		}
	case "launchPermission":
		out.LaunchPermissions = i.Permissions
	case "sriovNetSupport":
		out.SriovNetSupport = value(i.SriovNetSupport)
	case "tpmSupport":
		out.TpmSupport = value(i.TpmSupport)
	case "uefiData":
		out.UefiData = value(i.UefiData)
	default:
		return nil, invalidValue(in.Attribute, "attribute", "The sandbox does not know this attribute.")
	}
	return out, nil
}

type enableImageDeprecationInput struct {
	DeprecateAt time.Time `wire:",,required"`
	ImageId     string    `wire:",,required"`
}

// How far ahead an image may be deprecated, in years: from now, or where it is
// public from its creation
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeprecation.html).
const (
	maxDeprecation       = 10
	maxPublicDeprecation = 2
)

func (r *region) enableImageDeprecation(c *api.Call, in *enableImageDeprecationInput) (*succeeded, error) {
	i, err := r.ownImage(c, in.ImageId)
	if err != nil {
		return nil, err
	}
	at := in.DeprecateAt.Round(time.Minute) // "rounds the seconds to the nearest minute"
	switch {
	case at.Before(r.now()):
		return nil, fail("InvalidParameterValue", "The date %s is in the past; specify a date and time that is not.", stamp(in.DeprecateAt))
	case i.public() && at.After(i.Created.AddDate(maxPublicDeprecation, 0, 0)):
		return nil, fail("InvalidParameterValue", "The date %s is more than %d years from the creation of the image, which is public.", stamp(in.DeprecateAt), maxPublicDeprecation)
	case at.After(r.now().AddDate(maxDeprecation, 0, 0)):
		return nil, fail("InvalidParameterValue", "The date %s is more than %d years from now.", stamp(in.DeprecateAt), maxDeprecation)
	}
	i.Deprecated = at
	return &succeeded{true}, nil
}

type imageIDInput struct {
	ImageId string `wire:",,required"`
}

func (r *region) disableImageDeprecation(c *api.Call, in *imageIDInput) (*succeeded, error) {
	i, err := r.ownImage(c, in.ImageId)
	if err != nil {
		return nil, err
	}
	i.Deprecated = time.Time{}
	return &succeeded{true}, nil
}
