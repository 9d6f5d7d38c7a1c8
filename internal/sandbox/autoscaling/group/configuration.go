package group

import "slices"

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

// matches is whether the instance is what the configuration would launch now:
// the same launch template version, and one of the instance types.
func (c Configuration) matches(m *Member, fleet Fleet) bool {
	if c.LaunchConfiguration != "" {
		return m.LaunchConfiguration == c.LaunchConfiguration
	}
	return slices.ContainsFunc(c.Choices(), func(ch Choice) bool {
		t, err := fleet.Template(ch.Template, ch.InstanceType)
		if err != nil || t.ID != m.Template.ID || t.Version != m.Template.Version {
			return false
		}
		want := t.InstanceType
		if ch.InstanceType != "" {
			want = ch.InstanceType
		}
		return want == m.Type
	})
}
