package ec2

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// launchTemplateVersion is one version of a launch template. It never changes.
type launchTemplateVersion struct {
	Number      int64
	Description string
	Created     time.Time
	CreatedBy   string
	Data        launchData

	// VisibleAt is when callers see the version; zero if at once.
	VisibleAt time.Time `json:",omitzero"`
}

func (v *launchTemplateVersion) unseen() bool { return time.Now().Before(v.VisibleAt) }

// add appends a version.
func (t *launchTemplate) add(description, by string, now time.Time, data launchData) *launchTemplateVersion {
	t.Latest++
	version := &launchTemplateVersion{Number: t.Latest, Description: description, Created: now, CreatedBy: by, Data: data}
	t.Versions[version.Number] = version
	return version
}

// launchTemplateVersionItem is a version on the wire.
type launchTemplateVersionItem struct {
	CreatedBy          string
	CreateTime         time.Time
	DefaultVersion     bool
	LaunchTemplateData launchData
	LaunchTemplateId   string
	LaunchTemplateName string
	VersionDescription string
	VersionNumber      int64
}

func (t *launchTemplate) versionItem(v *launchTemplateVersion) launchTemplateVersionItem {
	return launchTemplateVersionItem{
		CreatedBy: v.CreatedBy, CreateTime: v.Created, DefaultVersion: v.Number == t.Default, LaunchTemplateData: v.Data,
		LaunchTemplateId: t.Id, LaunchTemplateName: t.Name, VersionDescription: v.Description, VersionNumber: v.Number,
	}
}

type createLaunchTemplateVersionInput struct {
	launchTemplateRef
	ClientToken        string
	LaunchTemplateData *launchData `wire:",,required"`
	ResolveAlias       bool
	SourceVersion      string
	VersionDescription string
}

type createLaunchTemplateVersionOutput struct {
	LaunchTemplateVersion launchTemplateVersionItem
	Warning               *launchWarning
}

func (r *region) createLaunchTemplateVersion(c *api.Call, in *createLaunchTemplateVersionInput) (*createLaunchTemplateVersionOutput, error) {
	in.LaunchTemplateData.tidy()
	template, err := r.template(in.launchTemplateRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("launch-template", template.Id))
	if err := in.LaunchTemplateData.check(launchTaggable...); err != nil {
		return nil, err
	}
	if err := checkVersionDescription(in.VersionDescription); err != nil {
		return nil, err
	}
	return once(r, "CreateLaunchTemplateVersion", in.ClientToken, in, func() (*createLaunchTemplateVersionOutput, error) {
		data := *in.LaunchTemplateData
		if in.SourceVersion != "" {
			source, err := template.version(in.SourceVersion)
			if err != nil {
				return nil, err
			}
			data = data.over(source.Data.inherited())
		}
		if len(template.Versions) >= maxLaunchTemplateVersions {
			return nil, fail("VersionLimitExceeded", "You have reached the maximum number of versions of a launch template, %d.", maxLaunchTemplateVersions)
		}
		if in.ResolveAlias && data.ImageId != "" {
			// Before anything changes.
			r.noteParameter(c, data.ImageId)
			if _, _, err := r.imageID(data.ImageId); err != nil {
				return nil, err
			}
		}
		version := template.add(in.VersionDescription, c.User(), r.now(), data)
		version.VisibleAt = r.visibleAt
		item, err := r.resolved(template.versionItem(version), in.ResolveAlias)
		if err != nil {
			return nil, err
		}
		return &createLaunchTemplateVersionOutput{item, r.warning(data)}, nil
	})
}

// resolved puts the AMI in place of the SSM parameter that names it, where
// that is asked for.
func (r *region) resolved(item launchTemplateVersionItem, ask bool) (launchTemplateVersionItem, error) {
	if !ask || item.LaunchTemplateData.ImageId == "" {
		return item, nil
	}
	id, _, err := r.imageID(item.LaunchTemplateData.ImageId)
	item.LaunchTemplateData.ImageId = id
	return item, err
}

type describeLaunchTemplateVersionsInput struct {
	launchTemplateRef
	paging
	Filters      []filter `wire:"Filter"`
	MaxVersion   string
	MinVersion   string
	ResolveAlias bool
	Versions     []string `wire:"LaunchTemplateVersion"`
}

type describeLaunchTemplateVersionsOutput struct {
	LaunchTemplateVersions []launchTemplateVersionItem `wire:",launchTemplateVersionSet"`
	NextToken              string
}

// placedVersion is a version in the order of a listing: templates by their
// creation, in each the newest version first.
type placedVersion struct {
	launchTemplateVersionItem
	place string
}

var launchTemplateVersionFilters = filterable[placedVersion]{values: map[string]func(placedVersion) []string{
	"create-time":          func(v placedVersion) []string { return []string{stamp(v.CreateTime)} },
	"ebs-optimized":        func(v placedVersion) []string { return truth(orZero(v.LaunchTemplateData.EbsOptimized)) },
	"http-endpoint":        func(v placedVersion) []string { return one(orZero(v.LaunchTemplateData.MetadataOptions).HttpEndpoint) },
	"http-tokens":          func(v placedVersion) []string { return one(orZero(v.LaunchTemplateData.MetadataOptions).HttpTokens) },
	"iam-instance-profile": func(v placedVersion) []string { return one(v.LaunchTemplateData.IamInstanceProfile.arn()) },
	"image-id":             func(v placedVersion) []string { return one(v.LaunchTemplateData.ImageId) },
	"instance-type":        func(v placedVersion) []string { return one(v.LaunchTemplateData.InstanceType) },
	"is-default-version":   func(v placedVersion) []string { return truth(v.DefaultVersion) },
}}

func (r *region) describeLaunchTemplateVersions(c *api.Call, in *describeLaunchTemplateVersionsInput) (*describeLaunchTemplateVersionsOutput, error) {
	if err := in.atMost(maxTemplatePage); err != nil {
		return nil, err
	}
	var placed []placedVersion
	var err error
	if in.LaunchTemplateId == "" && in.LaunchTemplateName == "" {
		placed, err = r.movingVersions(in)
	} else {
		placed, err = r.versionsOf(in)
	}
	if err != nil {
		return nil, err
	}
	if placed, err = launchTemplateVersionFilters.keep(placed, in.Filters); err != nil {
		return nil, err
	}
	placed, next, err := cut(placed, in.paging, pageRange{1, maxTemplatePage}, func(v placedVersion) string { return v.place })
	if err != nil {
		return nil, err
	}
	out := &describeLaunchTemplateVersionsOutput{NextToken: next}
	for _, v := range placed {
		if in.ResolveAlias {
			r.noteParameter(c, v.LaunchTemplateData.ImageId)
		}
		item, err := r.resolved(v.launchTemplateVersionItem, in.ResolveAlias)
		if err != nil {
			return nil, err
		}
		out.LaunchTemplateVersions = append(out.LaunchTemplateVersions, item)
	}
	return out, nil
}

// movingVersions lists the latest or default versions, or both, of all launch
// templates; that is the only way to ask about more than one.
func (r *region) movingVersions(in *describeLaunchTemplateVersionsInput) ([]placedVersion, error) {
	if len(in.Versions) == 0 {
		return nil, fail("MissingParameter", "Either a launch template ID or a launch template name must be specified in the request.")
	}
	if in.MinVersion != "" || in.MaxVersion != "" {
		return nil, fail("InvalidParameterCombination", "MinVersion and MaxVersion need a launch template.")
	}
	for _, text := range in.Versions {
		if text != latestVersion && text != defaultVersion {
			return nil, fail("InvalidParameterValue", "Without a launch template only the versions %s and %s can be described, not '%s'.", latestVersion, defaultVersion, text)
		}
	}
	var placed []placedVersion
	for _, template := range ordered(r.LaunchTemplates) {
		if template.unseen() {
			continue
		}
		some, err := template.placed(in.Versions)
		if err != nil {
			return nil, err
		}
		placed = append(placed, some...)
	}
	return placed, nil
}

// versionsOf lists the versions of one launch template.
func (r *region) versionsOf(in *describeLaunchTemplateVersionsInput) ([]placedVersion, error) {
	template, err := r.template(in.launchTemplateRef)
	if err != nil {
		return nil, err
	}
	least, most := int64(1), template.Latest
	if in.MinVersion != "" {
		if least, err = versionNumber(in.MinVersion); err != nil {
			return nil, err
		}
	}
	if in.MaxVersion != "" {
		if most, err = versionNumber(in.MaxVersion); err != nil {
			return nil, err
		}
	}
	placed, err := template.placed(in.Versions)
	return slices.DeleteFunc(placed, func(v placedVersion) bool { return v.VersionNumber < least || v.VersionNumber > most }), err
}

// placed lists the versions that texts mean, or all where there are none.
func (t *launchTemplate) placed(texts []string) ([]placedVersion, error) {
	wanted := map[int64]bool{}
	for _, text := range texts {
		version, err := t.version(text)
		if err != nil {
			return nil, err
		}
		wanted[version.Number] = true
	}
	var placed []placedVersion
	for _, version := range t.newestFirst() {
		if len(texts) == 0 || wanted[version.Number] {
			placed = append(placed, placedVersion{t.versionItem(version), fmt.Sprintf("%s %010d", t.base().place(), math.MaxInt32-version.Number)})
		}
	}
	return placed, nil
}

type deleteLaunchTemplateVersionsInput struct {
	launchTemplateRef
	Versions []string `wire:"LaunchTemplateVersion,,required"`
}

type deletedVersion struct {
	LaunchTemplateId   string
	LaunchTemplateName string
	VersionNumber      int64
}

type undeletedVersion struct {
	deletedVersion
	ResponseError struct{ Code, Message string }
}

type deleteLaunchTemplateVersionsOutput struct {
	Deleted   []deletedVersion   `wire:",successfullyDeletedLaunchTemplateVersionSet"`
	Undeleted []undeletedVersion `wire:",unsuccessfullyDeletedLaunchTemplateVersionSet"`
}

// maxDeletedVersions is how many versions one call may delete.
const maxDeletedVersions = 200

func (r *region) deleteLaunchTemplateVersions(c *api.Call, in *deleteLaunchTemplateVersionsInput) (*deleteLaunchTemplateVersionsOutput, error) {
	template, err := r.template(in.launchTemplateRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("launch-template", template.Id))
	if len(in.Versions) > maxDeletedVersions {
		return nil, fail("InvalidParameterValue", "At most %d launch template versions can be deleted in one call.", maxDeletedVersions)
	}
	out := &deleteLaunchTemplateVersionsOutput{}
	for _, text := range in.Versions {
		number, err := versionNumber(text)
		if err != nil {
			return nil, err
		}
		gone := deletedVersion{template.Id, template.Name, number}
		undeleted := undeletedVersion{deletedVersion: gone}
		switch {
		case template.Versions[number] == nil:
			undeleted.ResponseError.Code = "launchTemplateVersionDoesNotExist"
			undeleted.ResponseError.Message = "The specified version does not exist."
		case number == template.Default:
			undeleted.ResponseError.Code = "unexpectedError"
			undeleted.ResponseError.Message = "The default version of a launch template cannot be deleted."
		default:
			delete(template.Versions, number)
			out.Deleted = append(out.Deleted, gone)
			continue
		}
		out.Undeleted = append(out.Undeleted, undeleted)
	}
	return out, nil
}
