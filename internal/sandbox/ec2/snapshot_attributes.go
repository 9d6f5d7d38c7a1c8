package ec2

import (
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// createVolumePermission allows an account, or everybody, to create volumes
// from a snapshot and to copy it.
type createVolumePermission struct{ Group, UserId string }

type createVolumePermissionChange struct {
	Add    []createVolumePermission
	Remove []createVolumePermission
}

type modifySnapshotAttributeInput struct {
	Attribute              string
	CreateVolumePermission *createVolumePermissionChange
	GroupNames             []string `wire:"UserGroup"`
	OperationType          string
	SnapshotId             string   `wire:",,required"`
	UserIds                []string `wire:"UserId"`
}

// maxPermissionChanges is how many permissions of a snapshot one call may add, or
// remove (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html).
const maxPermissionChanges = 500

func (r *region) modifySnapshotAttribute(c *api.Call, in *modifySnapshotAttributeInput) (*succeeded, error) {
	found, err := r.ownSnapshot(in.SnapshotId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("snapshot", found.Id))
	if in.Attribute != "" && in.Attribute != "createVolumePermission" {
		return nil, invalidValue(in.Attribute, "attribute", "Only 'createVolumePermission' can be modified.")
	}
	change, err := in.change()
	if err != nil {
		return nil, err
	}
	switch changes := len(change.Add) + len(change.Remove); {
	case len(change.Add) > 0 && len(change.Remove) > 0:
		return nil, fail("InvalidParameterCombination", "Permissions cannot be added and removed in a single operation.")
	case changes > maxPermissionChanges:
		return nil, fail("InvalidParameterValue", "At most %d permissions can be modified in a single operation, not %d.", maxPermissionChanges, changes)
	}
	for _, p := range slices.Concat(change.Add, change.Remove) {
		if err := (launchPermission{Group: p.Group, UserId: p.UserId}).check(); err != nil {
			return nil, err
		}
	}
	for _, p := range change.Add {
		switch {
		case found.Encrypted && p.Group != "":
			return nil, fail("OperationNotPermitted", "Encrypted snapshots cannot be shared publicly")
		case found.Encrypted && found.KmsKeyId == r.defaultKey():
			return nil, fail("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
		case p.Group != "":
			found.Public = true
		case !slices.Contains(found.SharedTo, p.UserId):
			found.SharedTo = append(slices.Clone(found.SharedTo), p.UserId)
		}
	}
	for _, p := range change.Remove {
		if p.Group != "" {
			found.Public = false
			continue
		}
		found.SharedTo = slices.DeleteFunc(slices.Clone(found.SharedTo), func(user string) bool { return user == p.UserId })
	}
	return &succeeded{true}, nil
}

// change turns the older form of the request into the newer. As with images,
// lists without an operation count for nothing beside the newer form.
func (in *modifySnapshotAttributeInput) change() (createVolumePermissionChange, error) {
	change := createVolumePermissionChange{}
	if in.CreateVolumePermission != nil {
		change = *in.CreateVolumePermission
	}
	var people []createVolumePermission
	for _, id := range in.UserIds {
		people = append(people, createVolumePermission{UserId: id})
	}
	for _, group := range in.GroupNames {
		people = append(people, createVolumePermission{Group: group})
	}
	switch {
	case len(people) == 0, in.OperationType == "" && in.CreateVolumePermission != nil:
	case in.OperationType == "add":
		change.Add = append(change.Add, people...)
	case in.OperationType == "remove":
		change.Remove = append(change.Remove, people...)
	default:
		return change, invalidValue(in.OperationType, "operationType", "Expected 'add' or 'remove'.")
	}
	if len(change.Add)+len(change.Remove) == 0 {
		return change, fail("MissingParameter", "No operation specified for createVolumePermission attribute.")
	}
	return change, nil
}

type describeSnapshotAttributeInput struct {
	Attribute  string `wire:",,required"`
	SnapshotId string `wire:",,required"`
}

type describeSnapshotAttributeOutput struct {
	CreateVolumePermissions []createVolumePermission `wire:",createVolumePermission"`
	SnapshotId              string
}

func (r *region) describeSnapshotAttribute(c *api.Call, in *describeSnapshotAttributeInput) (*describeSnapshotAttributeOutput, error) {
	found, err := r.ownSnapshot(in.SnapshotId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("snapshot", found.Id))
	if in.Attribute != "createVolumePermission" {
		return nil, invalidValue(in.Attribute, "attribute", "The sandbox does not know this attribute.")
	}
	out := &describeSnapshotAttributeOutput{SnapshotId: found.Id}
	if found.Public {
		out.CreateVolumePermissions = append(out.CreateVolumePermissions, createVolumePermission{Group: "all"})
	}
	for _, account := range found.SharedTo {
		out.CreateVolumePermissions = append(out.CreateVolumePermissions, createVolumePermission{UserId: account})
	}
	return out, nil
}
