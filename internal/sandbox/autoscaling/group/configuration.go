package group

import (
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// TemplateRef names a launch template version as its user wrote it.
type TemplateRef struct {
	ID      string `json:",omitempty"`
	Name    string `json:",omitempty"`
	Version string `json:",omitempty"` // a number, $Latest or $Default, which is also meant by ""
}

// Floating is whether the version that is meant can change.
func (r TemplateRef) Floating() bool {
	return r.Version == "" || r.Version == "$Latest" || r.Version == "$Default"
}

// Template is a launch template version that exists.
type Template struct {
	ID           string `json:",omitempty"`
	Name         string `json:",omitempty"`
	Version      int64  `json:",omitempty"`
	InstanceType string `json:",omitempty"`
	FromSSM      bool   `json:",omitempty"` // its image is a Systems Manager parameter

	Permissions []api.Action `json:"-"` // of who gives it to a group
}

// Configuration is what a group launches from: exactly one of the three.
type Configuration struct {
	Template            *TemplateRef `json:",omitempty"`
	Mixed               *Mixed       `json:",omitempty"`
	LaunchConfiguration string       `json:",omitempty"`
}

// Mixed is a mixed instances policy.
type Mixed struct {
	Template     TemplateRef
	Overrides    []Override    `json:",omitempty"`
	Distribution *Distribution `json:",omitempty"`
}

// Override is one instance type of a mixed instances policy, with a launch
// template of its own where Template is not nil.
type Override struct {
	InstanceType string       `json:",omitempty"`
	Template     *TemplateRef `json:",omitempty"`
}

// Distribution is how purchase options are mixed. All instances are On-Demand
// here, in the order of the overrides.
type Distribution struct {
	OnDemandAllocationStrategy          string
	OnDemandBaseCapacity                int
	OnDemandPercentageAboveBaseCapacity int
	SpotAllocationStrategy              string
}

// Choice is one way to launch.
type Choice struct {
	Template     TemplateRef
	InstanceType string // in place of the template's, when not empty
}

// Choices are the ways to launch, preferred first; none for a launch configuration.
func (c Configuration) Choices() []Choice {
	switch {
	case c.Template != nil:
		return []Choice{{Template: *c.Template}}
	case c.Mixed == nil:
		return nil
	case len(c.Mixed.Overrides) == 0:
		return []Choice{{Template: c.Mixed.Template}}
	}
	choices := make([]Choice, len(c.Mixed.Overrides))
	for i, o := range c.Mixed.Overrides {
		choices[i] = Choice{Template: c.Mixed.Template, InstanceType: o.InstanceType}
		if o.Template != nil {
			choices[i].Template = *o.Template
		}
	}
	return choices
}

// Floating is whether any of the launch templates is named without a number.
func (c Configuration) Floating() bool {
	return slices.ContainsFunc(c.Choices(), func(ch Choice) bool { return ch.Template.Floating() })
}

// wanted is what the configuration would launch now. Choices that do not exist
// are none.
func (c Configuration) wanted(fleet Fleet) []Template {
	var all []Template
	for _, choice := range c.Choices() {
		t, err := fleet.Template(choice.Template, choice.InstanceType)
		if err != nil {
			continue
		}
		if choice.InstanceType != "" {
			t.InstanceType = choice.InstanceType
		}
		all = append(all, t)
	}
	return all
}

// same is whether both are launched alike.
func (t Template) same(other Template) bool {
	return t.ID == other.ID && t.Version == other.Version && t.InstanceType == other.InstanceType
}

// matches is whether the instance has the same launch template version as one
// that is wanted, and its instance type.
func (m *Member) matches(wanted []Template) bool {
	is := m.Template
	is.InstanceType = m.Type
	return slices.ContainsFunc(wanted, is.same)
}
