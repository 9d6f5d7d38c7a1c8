package ec2

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// image is an AMI. It is kept when it has been deregistered, because AWS
// answers for such an image otherwise than for one that never was.
type image struct {
	resource
	Owner              string
	Name               string
	Description        string
	Architecture       string
	VirtualizationType string
	RootDeviceName     string
	BlockDevices       []blockDevice // with all that follows from their snapshots
	BootMode           string
	EnaSupport         bool
	ImdsSupport        string
	SriovNetSupport    string
	TpmSupport         string
	UefiData           string
	State              string
	StateReason        string
	Permissions        []launchPermission
	SourceImage        string
	SourceRegion       string
	SourceInstance     string
	Deprecated         time.Time
	Launched           time.Time
}

// The states of an image.
const (
	imagePending      = "pending"
	imageAvailable    = "available"
	imageFailed       = "failed"
	imageDeregistered = "deregistered" // not shown
)

// launchPermission allows an account, everybody, or a part of an organization
// to launch an image.
type launchPermission struct {
	Group                 string
	OrganizationArn       string
	OrganizationalUnitArn string
	UserId                string
}

func (i *image) public() bool { return slices.Contains(i.Permissions, launchPermission{Group: "all"}) }

func (i *image) own() bool { return i.Owner == api.Account }

// visible tells whether the callers' account may know of the image.
func (i *image) visible() bool {
	return i.own() || i.public() || slices.Contains(i.Permissions, launchPermission{UserId: api.Account})
}

// snapshots lists the ids of the snapshots that the image needs.
func (i *image) snapshots() []string {
	var ids []string
	for _, device := range i.BlockDevices {
		if device.Ebs != nil && device.Ebs.SnapshotId != "" {
			ids = append(ids, device.Ebs.SnapshotId)
		}
	}
	return ids
}

// visibleImage finds an image that is registered and that the caller may know of.
func (r *region) visibleImage(id string) (*image, error) {
	if err := wellFormed(id, "ami", "InvalidAMIID.Malformed"); err != nil {
		return nil, err
	}
	found, ok := seen(r.Images, id)
	if !ok || !found.visible() {
		return nil, fail("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
	}
	if found.State == imageDeregistered {
		return nil, fail("InvalidAMIID.Unavailable", "The image ID '%s' is no longer available", id)
	}
	return found, nil
}

// ownImage finds an image that the caller may change.
func (r *region) ownImage(c *api.Call, id string) (*image, error) {
	found, err := r.visibleImage(id)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("image", id))
	if !found.own() {
		return nil, fail("AuthFailure", "Not authorized for images: [%s]", id)
	}
	return found, nil
}

// usableImage finds an image that instances can be run from.
func (r *region) usableImage(id string) (*image, error) {
	found, err := r.visibleImage(id)
	if err != nil {
		return nil, err
	}
	if found.State != imageAvailable {
		return nil, fail("InvalidAMIID.Unavailable", "The image ID '%s' is not available: it is %s", id, found.State)
	}
	return found, nil
}

// aliases are the words for owners that are not account numbers.
var aliases = map[string]string{"self": api.Account, "amazon": api.Amazon}

var accountNumber = regexp.MustCompile(`^[0-9]{12}$`)

// accounts gives the account numbers of owners; words that mean nobody here,
// such as aws-marketplace, mean no account.
func accounts(owners []string) ([]string, error) {
	var numbers []string
	for _, owner := range owners {
		switch number := aliases[owner]; {
		case number != "":
			numbers = append(numbers, number)
		case owner == "aws-marketplace" || owner == "aws-backup-vault":
			numbers = append(numbers, owner)
		case accountNumber.MatchString(owner):
			numbers = append(numbers, owner)
		default:
			return nil, fail("InvalidUserID.Malformed", `Invalid user id: "%s"`, owner)
		}
	}
	return numbers, nil
}

// checkUsers refuses what is neither an account, nor self, nor all.
func checkUsers(users []string) error {
	for _, user := range users {
		if user != "self" && user != "all" && !accountNumber.MatchString(user) {
			return fail("InvalidUserID.Malformed", `Invalid user id: "%s"`, user)
		}
	}
	return nil
}

// alias is the word for an owner, if there is one.
func alias(owner string) string {
	if owner == api.Amazon {
		return "amazon"
	}
	return ""
}

// imageItem is an image on the wire.
type imageItem struct {
	Architecture             string
	BlockDeviceMappings      []blockDevice `wire:",blockDeviceMapping"`
	BootMode                 string
	CreationDate             string
	DeprecationTime          string
	DeregistrationProtection string
	Description              string
	EnaSupport               bool
	Hypervisor               string
	ImageId                  string
	ImageLocation            string
	ImageOwnerAlias          string
	ImageType                string
	ImdsSupport              string
	Name                     string
	OwnerId                  string `wire:",imageOwnerId"`
	PlatformDetails          string
	Public                   bool `wire:",isPublic"`
	RootDeviceName           string
	RootDeviceType           string
	SourceImageId            string
	SourceImageRegion        string
	SourceInstanceId         string
	SriovNetSupport          string
	State                    string `wire:",imageState"`
	StateReason              *stateReason
	Tags                     []tag `wire:",tagSet"`
	TpmSupport               string
	UsageOperation           string
	VirtualizationType       string
}

// stateReason says why something is in its state.
type stateReason struct{ Code, Message string }

func (i *image) item() imageItem {
	it := imageItem{
		Architecture: i.Architecture, BlockDeviceMappings: i.BlockDevices, BootMode: i.BootMode, CreationDate: stamp(i.Created),
		DeregistrationProtection: "disabled", Description: i.Description, EnaSupport: i.EnaSupport, Hypervisor: "xen",
		ImageId: i.Id, ImageLocation: i.Owner + "/" + i.Name, ImageOwnerAlias: alias(i.Owner), ImageType: "machine",
		ImdsSupport: i.ImdsSupport, Name: i.Name, OwnerId: i.Owner, PlatformDetails: "Linux/UNIX", Public: i.public(),
		RootDeviceName: i.RootDeviceName, RootDeviceType: "ebs", SourceImageId: i.SourceImage, SourceImageRegion: i.SourceRegion,
		SourceInstanceId: i.SourceInstance, SriovNetSupport: i.SriovNetSupport, State: i.State, Tags: i.Tags.wire(),
		TpmSupport: i.TpmSupport, UsageOperation: "RunInstances", VirtualizationType: i.VirtualizationType,
	}
	if !i.Deprecated.IsZero() {
		it.DeprecationTime = stamp(i.Deprecated)
	}
	if i.StateReason != "" {
		it.StateReason = &stateReason{"Client.InvalidSnapshot", i.StateReason}
	}
	return it
}

type describeImagesInput struct {
	paging
	ExecutableUsers   []string `wire:"ExecutableBy"`
	Filters           []filter `wire:"Filter"`
	ImageIds          []string `wire:"ImageId"`
	IncludeDeprecated bool
	IncludeDisabled   bool     // changes nothing: images can't be disabled here
	Owners            []string `wire:"Owner"`
}

type describeImagesOutput struct {
	Images    []imageItem `wire:",imagesSet"`
	NextToken string
}

var imageFilters = filterable[imageItem]{
	values: map[string]func(imageItem) []string{
		"architecture": func(i imageItem) []string { return []string{i.Architecture} },
		"block-device-mapping.delete-on-termination": func(i imageItem) []string {
			return i.devices(func(e *ebsDevice) []string { return truth(orZero(e.DeleteOnTermination)) })
		},
		"block-device-mapping.device-name": func(i imageItem) []string {
			var names []string
			for _, device := range i.BlockDeviceMappings {
				names = append(names, device.DeviceName)
			}
			return names
		},
		"block-device-mapping.encrypted": func(i imageItem) []string {
			return i.devices(func(e *ebsDevice) []string { return truth(orZero(e.Encrypted)) })
		},
		"block-device-mapping.snapshot-id": func(i imageItem) []string { return i.devices(func(e *ebsDevice) []string { return one(e.SnapshotId) }) },
		"block-device-mapping.volume-size": func(i imageItem) []string {
			return i.devices(func(e *ebsDevice) []string { return number(e.VolumeSize) })
		},
		"block-device-mapping.volume-type": func(i imageItem) []string { return i.devices(func(e *ebsDevice) []string { return one(e.VolumeType) }) },
		"boot-mode":                        func(i imageItem) []string { return one(i.BootMode) },
		"creation-date":                    func(i imageItem) []string { return []string{i.CreationDate} },
		"description":                      func(i imageItem) []string { return one(i.Description) },
		"ena-support":                      func(i imageItem) []string { return truth(i.EnaSupport) },
		"hypervisor":                       func(i imageItem) []string { return []string{i.Hypervisor} },
		"image-id":                         func(i imageItem) []string { return []string{i.ImageId} },
		"image-type":                       func(i imageItem) []string { return []string{i.ImageType} },
		"is-public":                        func(i imageItem) []string { return truth(i.Public) },
		"manifest-location":                func(i imageItem) []string { return []string{i.ImageLocation} },
		"name":                             func(i imageItem) []string { return []string{i.Name} },
		"owner-alias":                      func(i imageItem) []string { return one(i.ImageOwnerAlias) },
		"owner-id":                         func(i imageItem) []string { return []string{i.OwnerId} },
		"kernel-id":                        func(imageItem) []string { return nil }, // only old paravirtual images have one
		"platform":                         func(imageItem) []string { return nil }, // only Windows has one
		"product-code":                     func(imageItem) []string { return nil },
		"product-code.type":                func(imageItem) []string { return nil },
		"ramdisk-id":                       func(imageItem) []string { return nil },
		"root-device-name":                 func(i imageItem) []string { return []string{i.RootDeviceName} },
		"root-device-type":                 func(i imageItem) []string { return []string{i.RootDeviceType} },
		"source-image-id":                  func(i imageItem) []string { return one(i.SourceImageId) },
		"source-image-region":              func(i imageItem) []string { return one(i.SourceImageRegion) },
		"source-instance-id":               func(i imageItem) []string { return one(i.SourceInstanceId) },
		"sriov-net-support":                func(i imageItem) []string { return one(i.SriovNetSupport) },
		"state":                            func(i imageItem) []string { return []string{i.State} },
		"state-reason-code":                func(i imageItem) []string { return i.because(func(s stateReason) string { return s.Code }) },
		"state-reason-message":             func(i imageItem) []string { return i.because(func(s stateReason) string { return s.Message }) },
		"virtualization-type":              func(i imageItem) []string { return []string{i.VirtualizationType} },
	},
	tags: func(i imageItem) tags { return tagMap(i.Tags) },
}

func (i imageItem) devices(of func(*ebsDevice) []string) []string {
	var values []string
	for _, device := range i.BlockDeviceMappings {
		if device.Ebs != nil {
			values = append(values, of(device.Ebs)...)
		}
	}
	return values
}

func (i imageItem) because(of func(stateReason) string) []string {
	if i.StateReason == nil {
		return nil
	}
	return one(of(*i.StateReason))
}

func (r *region) describeImages(_ *api.Call, in *describeImagesInput) (*describeImagesOutput, error) {
	for _, id := range in.ImageIds {
		if _, err := r.visibleImage(id); err != nil {
			return nil, err
		}
	}
	owners, err := accounts(in.Owners)
	if err != nil {
		return nil, err
	}
	if err := checkUsers(in.ExecutableUsers); err != nil {
		return nil, err
	}
	var candidates []*image
	for _, i := range ordered(r.Images) {
		switch {
		case !i.visible() || i.State == imageDeregistered:
		case len(owners) > 0 && !slices.Contains(owners, i.Owner):
		case len(in.ExecutableUsers) > 0 && !i.executableBy(in.ExecutableUsers):
		case r.deprecated(i) && !i.own() && !in.IncludeDeprecated && len(in.ImageIds) == 0:
		default:
			candidates = append(candidates, i)
		}
	}
	found, next, err := describe(candidates, in.ImageIds, (*image).item, imageFilters, in.Filters, in.paging, pageRange{1, 1000})
	return &describeImagesOutput{found, next}, err
}

func (r *region) deprecated(i *image) bool {
	return !i.Deprecated.IsZero() && !r.now().Before(i.Deprecated)
}

// executableBy tells whether the image has a launch permission for one of the
// users: account numbers, self, or all for everybody.
func (i *image) executableBy(users []string) bool {
	return slices.ContainsFunc(i.Permissions, func(p launchPermission) bool {
		return p.Group != "" && slices.Contains(users, p.Group) || p.UserId != "" && slices.ContainsFunc(users, func(user string) bool {
			return user == p.UserId || aliases[user] == p.UserId
		})
	})
}

type deregisterImageInput struct {
	DeleteAssociatedSnapshots bool
	ImageId                   string `wire:",,required"`
}

type deletedSnapshot struct{ ReturnCode, SnapshotId string }

type deregisterImageOutput struct {
	DeleteSnapshotResults []deletedSnapshot `wire:",deleteSnapshotResultSet"`
	Return                bool
}

func (r *region) deregisterImage(c *api.Call, in *deregisterImageInput) (*deregisterImageOutput, error) {
	i, err := r.ownImage(c, in.ImageId)
	if err != nil {
		return nil, err
	}
	if in.DeleteAssociatedSnapshots {
		for _, id := range i.snapshots() {
			c.Needs("ec2:DeleteSnapshot", r.arn("snapshot", id))
		}
	}
	i.State, i.Tags = imageDeregistered, nil // its tags are nobody's
	out := &deregisterImageOutput{Return: true}
	if !in.DeleteAssociatedSnapshots {
		return out, nil
	}
	for _, id := range i.snapshots() {
		code := "success"
		switch snapshot, err := r.ownSnapshot(id); {
		case err != nil:
			code = "client-error"
		case r.imageOf(id) != nil:
			code = "skipped" // another image needs it
		default:
			if err := r.removeSnapshot(snapshot); err != nil {
				return nil, err
			}
		}
		out.DeleteSnapshotResults = append(out.DeleteSnapshotResults, deletedSnapshot{code, id})
	}
	return out, nil
}

// imageOf gives a registered image that needs the snapshot, if there is one.
func (r *region) imageOf(snapshot string) *image {
	for _, i := range r.Images {
		if i.State != imageDeregistered && slices.Contains(i.snapshots(), snapshot) {
			return i
		}
	}
	return nil
}

// nameTaken refuses a name that an image of the callers' account has.
func (r *region) nameTaken(name string) error {
	for _, i := range r.Images {
		if i.own() && i.Name == name && i.State != imageDeregistered {
			return fail("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", name, i.Id)
		}
	}
	return nil
}

var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

func checkImageName(name string) error {
	if !imageName.MatchString(name) {
		return fail("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '[', ']', ' ', '.', '/', '-', ''', '@', or '_'")
	}
	return nil
}

// parameterScheme begins an image id that is to be read from an SSM parameter
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/create-launch-template.html#use-an-ssm-parameter-instead-of-an-ami-id).
const parameterScheme = "resolve:ssm:"

// imageID gives the id of the image that text names, and whether it does so by
// an SSM parameter.
func (r *region) imageID(text string) (id string, byParameter bool, err error) {
	name, byParameter := strings.CutPrefix(text, parameterScheme)
	if !byParameter {
		return text, false, nil
	}
	value, ok := r.service.parameter(r.name, name)
	if !ok {
		return "", true, fail("InvalidParameterValue", "The SSM parameter '%s' that the image ID names does not exist", name)
	}
	return value, true, nil
}
