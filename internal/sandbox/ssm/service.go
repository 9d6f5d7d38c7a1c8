// Package ssm is the sandbox's Systems Manager, of which there is the
// Parameter Store: parameters with their versions, and the public ones that
// name Amazon Linux's images.
package ssm

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Service is the Parameter Store.
type Service struct {
	clock *clock.Clock
	pages *state.Ledger[page]
}

// page is what a region has of parameters, by name.
type page struct {
	Parameters map[string]*parameter
}

// parameter is a parameter with its versions, oldest first. It has one at
// least.
type parameter struct {
	Name           string
	Type           string
	DataType       string
	Description    string `json:",omitempty"`
	Tier           string
	KeyId          string `json:",omitempty"`
	AllowedPattern string `json:",omitempty"`
	Public         bool   `json:",omitempty"` // AWS's own
	User           string `json:",omitempty"` // ARN of who changed it last
	Versions       []version
}

type version struct {
	Number   int64
	Value    string
	Modified time.Time
	Labels   []string `json:",omitempty"`
}

// maxVersions is how many versions of a parameter are kept
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html).
const maxVersions = 100

// New makes the service.
func New(books *state.Books, clock *clock.Clock) (*Service, error) {
	pages, err := state.Declare(books, "ssm", func(string) *page {
		return &page{Parameters: map[string]*parameter{}}
	})
	if err != nil {
		return nil, err
	}
	return &Service{clock: clock, pages: pages}, nil
}

// API gives the service's operations.
func (s *Service) API() *api.Service {
	r := api.NewService("ssm", wire.JSON("AmazonSSM"))
	api.Register(r, "GetParameter", s.getParameter)
	api.Register(r, "GetParameters", s.getParameters)
	api.Register(r, "GetParametersByPath", s.getParametersByPath)
	api.Register(r, "LabelParameterVersion", s.labelParameterVersion)
	api.Register(r, "PutParameter", s.putParameter)
	api.Register(r, "DeleteParameter", s.deleteParameter)
	api.Register(r, "DescribeParameters", s.describeParameters)
	return r
}

// Value gives a parameter's value; name may end in :VERSION or :LABEL. The books
// must be held.
func (s *Service) Value(region, name string) (string, bool) {
	p, v, err := s.find(region, name)
	if err != nil || p.Type == secureString {
		return "", false
	}
	return v.Value, true
}

// Publish sets a public parameter, which every account can read and none can
// change. The books must be held.
func (s *Service) Publish(region, name, dataType, value string) {
	page := s.pages.In(region)
	p, ok := page.Parameters[name]
	if !ok {
		p = &parameter{Name: name, Type: "String", DataType: dataType, Tier: standard, Public: true}
		page.Parameters[name] = p
	}
	if !ok || p.latest().Value != value {
		p.add(value, s.clock.Now())
	}
}

func (p *parameter) latest() version { return p.Versions[len(p.Versions)-1] }

// add makes value the newest version.
func (p *parameter) add(value string, now time.Time) {
	number := int64(1)
	if len(p.Versions) > 0 {
		number = p.latest().Number + 1
	}
	versions := append(slices.Clone(p.Versions), version{Number: number, Value: value, Modified: now})
	p.Versions = versions[max(0, len(versions)-maxVersions):]
}

// arn names a parameter. Public ones belong to no account.
func (p *parameter) arn(region string) string {
	account := api.Account
	if p.Public {
		account = ""
	}
	return "arn:aws:ssm:" + region + ":" + account + ":parameter/" + strings.TrimPrefix(p.Name, "/")
}

// find finds a version of a parameter by NAME, NAME:VERSION, NAME:LABEL, or an
// ARN in place of the name.
func (s *Service) find(region, selected string) (*parameter, version, error) {
	name, selector := splitSelector(selected)
	parameters := s.pages.In(region).Parameters
	p, ok := parameters[name]
	if !ok {
		p, ok = parameters[strings.TrimPrefix(name, "/")]
	}
	if !ok {
		return nil, version{}, wire.Errorf("ParameterNotFound", "The parameter %s does not exist in %s", name, region)
	}
	if selector == "" {
		return p, p.latest(), nil
	}
	for _, v := range p.Versions {
		if strconv.FormatInt(v.Number, 10) == selector || slices.Contains(v.Labels, selector) {
			return p, v, nil
		}
	}
	return nil, version{}, wire.Errorf("ParameterVersionNotFound", "The parameter %s has no version or label %s", name, selector)
}

// splitSelector parts the name from what follows the colon. An ARN is reduced
// to the name in it, which begins with a slash.
func splitSelector(selected string) (name, selector string) {
	if strings.HasPrefix(selected, "arn:") {
		if _, resource, ok := strings.Cut(selected, ":parameter/"); ok {
			selected = "/" + resource
		}
	}
	name, selector, _ = strings.Cut(selected, ":")
	return name, selector
}

// named lists the parameters of a region that pass the filter, by name.
func (s *Service) named(region string, filter func(*parameter) bool) []*parameter {
	all := s.pages.In(region).Parameters
	var found []*parameter
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if filter(all[name]) {
			found = append(found, all[name])
		}
	}
	return found
}
