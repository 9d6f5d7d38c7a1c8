package ec2

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// launchTemplate is a launch template with all its versions.
type launchTemplate struct {
	resource
	Name            string
	CreatedBy       string
	Default, Latest int64
	Versions        map[int64]*launchTemplateVersion
}

// launchTemplateItem is a launch template on the wire.
type launchTemplateItem struct {
	CreatedBy            string
	CreateTime           time.Time
	DefaultVersionNumber int64
	LatestVersionNumber  int64
	LaunchTemplateId     string
	LaunchTemplateName   string
	Tags                 []tag `wire:",tagSet"`
}

func (t *launchTemplate) item() launchTemplateItem {
	return launchTemplateItem{
		CreatedBy: t.CreatedBy, CreateTime: t.Created, DefaultVersionNumber: t.Default, LatestVersionNumber: t.latest(),
		LaunchTemplateId: t.Id, LaunchTemplateName: t.Name, Tags: t.Tags.wire(),
	}
}

type launchTemplateOutput struct {
	LaunchTemplate launchTemplateItem
	Warning        *launchWarning
}

// launchWarning tells what is wrong with a template that was made all the same.
type launchWarning struct {
	Errors []launchProblem `wire:",errorSet"`
}

type launchProblem struct{ Code, Message string }

// warning tells what would be refused if instances were run from the data: "If
// the launch template contains parameters or parameter combinations that are not
// valid, an error code and an error message are returned" (CreateLaunchTemplate).
// What a request to run instances may still give is no problem.
func (r *region) warning(data launchData) *launchWarning {
	if data.ImageId == "" || data.InstanceType == "" || strings.HasPrefix(data.ImageId, parameterScheme) {
		return nil
	}
	_, err := r.plan(order{data: data})
	if problem, ok := errors.AsType[*wire.Error](err); ok {
		return &launchWarning{[]launchProblem{{problem.Code, problem.Message}}}
	}
	return nil
}

// The words for the versions that move
// (https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LaunchTemplateSpecification.html).
const (
	latestVersion  = "$Latest"
	defaultVersion = "$Default"
)

// The quotas of launch templates
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-launch-templates.html).
const (
	maxLaunchTemplates        = 5000
	maxLaunchTemplateVersions = 10000
)

// maxVersionDescription is how long the description of a version may be
// (CreateLaunchTemplate).
const maxVersionDescription = 255

func checkVersionDescription(description string) error {
	if utf8.RuneCountInString(description) > maxVersionDescription {
		return fail("InvalidParameterValue", "The version description may have at most %d characters.", maxVersionDescription)
	}
	return nil
}

var launchTemplateName = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)

// launchTaggable are the resource types that a launch may tag.
var launchTaggable = []string{"instance", "volume", "network-interface", "spot-instances-request"}

type createLaunchTemplateInput struct {
	ClientToken        string
	LaunchTemplateData *launchData        `wire:",,required"`
	LaunchTemplateName string             `wire:",,required"`
	TagSpecifications  []tagSpecification `wire:"TagSpecification"`
	VersionDescription string
}

func (r *region) createLaunchTemplate(c *api.Call, in *createLaunchTemplateInput) (*launchTemplateOutput, error) {
	in.LaunchTemplateData.tidy()
	name := in.LaunchTemplateName
	if !launchTemplateName.MatchString(name) {
		return nil, fail("InvalidLaunchTemplateName.MalformedException", "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the following characters: - ( ) . / _")
	}
	if err := in.LaunchTemplateData.check(launchTaggable...); err != nil {
		return nil, err
	}
	if err := checkVersionDescription(in.VersionDescription); err != nil {
		return nil, err
	}
	tagged, err := specified(in.TagSpecifications, "launch-template")
	if err != nil {
		return nil, err
	}
	c.On(r.arn("launch-template", "*"))
	r.tagOnCreate(c, tagged)
	return once(r, "CreateLaunchTemplate", in.ClientToken, in, func() (*launchTemplateOutput, error) {
		if r.templateByName(name) != nil {
			return nil, fail("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
		}
		if len(r.LaunchTemplates) >= maxLaunchTemplates {
			return nil, fail("LaunchTemplateLimitExceeded", "You have reached the maximum number of launch templates, %d.", maxLaunchTemplates)
		}
		template := &launchTemplate{
			resource: r.newResource("lt", tagged["launch-template"]), Name: name, CreatedBy: c.User(),
			Versions: map[int64]*launchTemplateVersion{},
		}
		template.add(in.VersionDescription, c.User(), r.now(), *in.LaunchTemplateData)
		template.Default = 1
		r.LaunchTemplates[template.Id] = template
		return &launchTemplateOutput{template.item(), r.warning(*in.LaunchTemplateData)}, nil
	})
}

// launchTemplateRef names a launch template, by id or by name.
type launchTemplateRef struct {
	LaunchTemplateId   string
	LaunchTemplateName string
}

// template finds what ref names.
func (r *region) template(ref launchTemplateRef) (*launchTemplate, error) {
	switch id, name := ref.LaunchTemplateId, ref.LaunchTemplateName; {
	case id != "" && name != "":
		return nil, fail("InvalidParameterCombination", "The parameters launchTemplateId and launchTemplateName cannot be used together.")
	case id != "":
		if err := wellFormed(id, "lt", "InvalidLaunchTemplateId.Malformed"); err != nil {
			return nil, err
		}
		if template, ok := seen(r.LaunchTemplates, id); ok {
			return template, nil
		}
		return nil, fail("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
	case name != "":
		if template := r.templateByName(name); template != nil && !template.unseen() {
			return template, nil
		}
		return nil, fail("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", name)
	}
	return nil, fail("MissingParameter", "Either a launch template ID or a launch template name must be specified in the request.")
}

func (r *region) templateByName(name string) *launchTemplate {
	for _, template := range r.LaunchTemplates {
		if template.Name == name {
			return template
		}
	}
	return nil
}

// maxTemplatePage is how many templates or versions a page may have
// (DescribeLaunchTemplates, DescribeLaunchTemplateVersions).
const maxTemplatePage = 200

type describeLaunchTemplatesInput struct {
	paging
	Filters             []filter `wire:"Filter"`
	LaunchTemplateIds   []string `wire:"LaunchTemplateId"`
	LaunchTemplateNames []string `wire:"LaunchTemplateName"`
}

type describeLaunchTemplatesOutput struct {
	LaunchTemplates []launchTemplateItem
	NextToken       string
}

var launchTemplateFilters = filterable[launchTemplateItem]{
	values: map[string]func(launchTemplateItem) []string{
		"create-time":          func(t launchTemplateItem) []string { return []string{stamp(t.CreateTime)} },
		"launch-template-name": func(t launchTemplateItem) []string { return []string{t.LaunchTemplateName} },
	},
	tags: func(t launchTemplateItem) tags { return tagMap(t.Tags) },
}

func (r *region) describeLaunchTemplates(_ *api.Call, in *describeLaunchTemplatesInput) (*describeLaunchTemplatesOutput, error) {
	if err := in.atMost(maxTemplatePage); err != nil {
		return nil, err
	}
	var ids []string
	for _, id := range in.LaunchTemplateIds {
		if _, err := r.template(launchTemplateRef{LaunchTemplateId: id}); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for _, name := range in.LaunchTemplateNames {
		template, err := r.template(launchTemplateRef{LaunchTemplateName: name})
		if err != nil {
			return nil, err
		}
		ids = append(ids, template.Id)
	}
	found, next, err := describe(ordered(r.LaunchTemplates), ids, (*launchTemplate).item,
		launchTemplateFilters, in.Filters, in.paging, pageRange{1, maxTemplatePage})
	return &describeLaunchTemplatesOutput{found, next}, err
}

type modifyLaunchTemplateInput struct {
	launchTemplateRef
	ClientToken    string
	DefaultVersion string `wire:"SetDefaultVersion,,required"`
}

func (r *region) modifyLaunchTemplate(c *api.Call, in *modifyLaunchTemplateInput) (*launchTemplateOutput, error) {
	template, err := r.template(in.launchTemplateRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("launch-template", template.Id))
	return once(r, "ModifyLaunchTemplate", in.ClientToken, in, func() (*launchTemplateOutput, error) {
		version, err := template.version(in.DefaultVersion)
		if err != nil {
			return nil, err
		}
		template.Default = version.Number
		return &launchTemplateOutput{LaunchTemplate: template.item()}, nil
	})
}

type deleteLaunchTemplateInput struct {
	launchTemplateRef
}

func (r *region) deleteLaunchTemplate(c *api.Call, in *deleteLaunchTemplateInput) (*launchTemplateOutput, error) {
	template, err := r.template(in.launchTemplateRef)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("launch-template", template.Id))
	delete(r.LaunchTemplates, template.Id)
	return &launchTemplateOutput{LaunchTemplate: template.item()}, nil
}

// version finds the version that text means: a number, $Latest or $Default,
// which "" means as well.
func (t *launchTemplate) version(text string) (*launchTemplateVersion, error) {
	var number int64
	switch text {
	case "", defaultVersion:
		number = t.Default
	case latestVersion:
		number = t.latest()
	default:
		var err error
		if number, err = versionNumber(text); err != nil {
			return nil, err
		}
	}
	if version := t.Versions[number]; version != nil && !version.unseen() {
		return version, nil
	}
	return nil, fail("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", text, t.Id)
}

func versionNumber(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, fail("InvalidLaunchTemplateId.VersionMalformed", "The specified launch template version (%s) is not valid; specify a number, %s or %s.", text, latestVersion, defaultVersion)
	}
	return number, nil
}

// latest is the number of the newest version that callers see.
func (t *launchTemplate) latest() int64 {
	if newest := t.newestFirst(); len(newest) > 0 {
		return newest[0].Number
	}
	return t.Latest
}

// newestFirst lists the versions that callers see from the newest, as AWS does.
func (t *launchTemplate) newestFirst() []*launchTemplateVersion {
	versions := make([]*launchTemplateVersion, 0, len(t.Versions))
	for _, version := range t.Versions {
		if !version.unseen() {
			versions = append(versions, version)
		}
	}
	slices.SortFunc(versions, func(a, b *launchTemplateVersion) int { return int(b.Number - a.Number) })
	return versions
}
