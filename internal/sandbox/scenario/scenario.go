// Package scenario makes things happen in a sandbox at given moments: alarms,
// instances and targets that fall ill, capacity that runs out, faults that come
// and go. A scenario is a file in HCL:
//
//	step {
//	  call  = "autoscaling:StartInstanceRefresh" # once one has succeeded …
//	  after = "30s"                              # … and 30 seconds have passed
//
//	  alarm "hello-errors" {
//	    state = "ALARM"
//	  }
//	}
package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

// Scenario is what happens, and when.
type Scenario struct {
	Steps []*Step `hcl:"step,block"`
}

// Step is what happens at one moment. Absent settings leave things as they are.
type Step struct {
	Call   string `hcl:"call,optional"`   // the operation whose call begins it; by default it begins when the sandbox is ready
	Nth    int    `hcl:"nth,optional"`    // of the operation's calls that succeed; the first by default
	After  string `hcl:"after,optional"`  // how long afterwards
	Region string `hcl:"region,optional"` // where it happens; the sandbox's first by default

	Faults     *[]string `hcl:"faults,optional"`      // in place of those of former steps
	NewTargets string    `hcl:"new_targets,optional"` // the health of targets that are registered from now on
	Capacity   *Capacity `hcl:"capacity,block"`
	Alarms     []Alarm   `hcl:"alarm,block"`
	Targets    []Targets `hcl:"targets,block"`
	Instances  []Targets `hcl:"instances,block"`

	Range hcl.Range `hcl:",def_range"`

	after time.Duration
	rules []fault.Rule
}

// Capacity is what EC2 lacks, in place of what it lacked before.
type Capacity struct {
	Shortages []Shortage `hcl:"shortage,block"`
}

// Shortage is an ec2.Shortage.
type Shortage struct {
	InstanceType string `hcl:"instance_type,optional"`
	Zone         string `hcl:"zone,optional"`
	Lifecycle    string `hcl:"lifecycle,optional"`
	Code         string `hcl:"code,optional"`
	Room         int    `hcl:"room,optional"`
	Times        int    `hcl:"times,optional"`
}

// Alarm puts an alarm of CloudWatch, which must exist by then, into a state.
type Alarm struct {
	Name   string `hcl:"name,label"`
	State  string `hcl:"state"`
	Reason string `hcl:"reason,optional"`
}

// Targets are instances of an Auto Scaling group, as the load balancer or the
// group itself finds them.
type Targets struct {
	Group  string `hcl:"group,label"`
	Health string `hcl:"health"`
	Newest int    `hcl:"newest,optional"` // so many of the group's newest; all by default
}

// The healths. Checked leaves a target to the health checks again.
const (
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
	Checked   = "checked"
)

// Read reads a scenario from a file.
func Read(path string) (*Scenario, error) {
	file, problems := hclparse.NewParser().ParseHCLFile(path)
	s := &Scenario{}
	if !problems.HasErrors() {
		problems = problems.Extend(gohcl.DecodeBody(file.Body, nil, s))
	}
	if problems.HasErrors() {
		return nil, fmt.Errorf("read the scenario: %w", problems)
	}
	for _, step := range s.Steps {
		if err := step.read(); err != nil {
			return nil, fmt.Errorf("read the scenario: %s: %w", step.Range, err)
		}
	}
	return s, nil
}

// read makes sense of what HCL does not.
func (s *Step) read() (err error) {
	if s.Nth == 0 {
		s.Nth = 1
	}
	switch {
	case s.Call == "" && s.After == "":
		return errors.New(`a step needs its moment; give after, such as "30s", call, such as "ec2:RegisterImage", or both`)
	case s.Call == "" && s.Nth != 1:
		return errors.New("nth is about the calls of an operation; name it with call")
	case s.Nth < 1:
		return fmt.Errorf("nth is %d; give the number of a call, from 1 on", s.Nth)
	}
	if s.After != "" {
		if s.after, err = time.ParseDuration(s.After); err != nil || s.after < 0 {
			return fmt.Errorf(`after %q is not a time from 0 on; give one such as "30s"`, s.After)
		}
	}
	if s.Faults != nil {
		for _, text := range *s.Faults {
			rule, err := fault.Parse(text)
			if err != nil {
				return fmt.Errorf("fault %q: %w", text, err)
			}
			s.rules = append(s.rules, rule)
		}
	}
	if s.Region != "" && !api.IsRegion(s.Region) {
		return fmt.Errorf("region %q is not the name of a region; give one such as eu-west-1", s.Region)
	}
	return errors.Join(s.checkStates(), s.checkCapacity(), s.checkNotEmpty())
}

func (s *Step) checkNotEmpty() error {
	if s.Faults == nil && s.NewTargets == "" && s.Capacity == nil && len(s.Alarms)+len(s.Targets)+len(s.Instances) == 0 {
		return errors.New("nothing happens in the step; give it faults, new_targets, capacity, alarm, targets or instances")
	}
	return nil
}

func (s *Step) checkStates() error {
	if err := oneOf("new_targets", s.NewTargets, "", Unhealthy, Checked); err != nil {
		return err
	}
	for _, a := range s.Alarms {
		if err := oneOf("state of alarm "+a.Name, a.State, "OK", "ALARM", "INSUFFICIENT_DATA"); err != nil {
			return err
		}
	}
	for _, t := range s.Targets {
		if err := oneOf("health of targets "+t.Group, t.Health, Healthy, Unhealthy, Checked); err != nil {
			return err
		}
	}
	for _, i := range s.Instances {
		if err := oneOf("health of instances "+i.Group, i.Health, Healthy, Unhealthy); err != nil {
			return err
		}
	}
	for _, t := range slices.Concat(s.Targets, s.Instances) {
		if t.Newest < 0 {
			return fmt.Errorf("newest of group %s is %d; give a number of instances, or leave it out for all", t.Group, t.Newest)
		}
	}
	return nil
}

func (s *Step) checkCapacity() error {
	for _, shortage := range s.shortages() {
		if err := shortage.Check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Step) shortages() (rules []ec2.Shortage) {
	if s.Capacity == nil {
		return nil
	}
	for _, one := range s.Capacity.Shortages {
		rules = append(rules, ec2.Shortage(one))
	}
	return rules
}

func oneOf(what, value string, known ...string) error {
	if slices.Contains(known, value) {
		return nil
	}
	known = slices.DeleteFunc(known, func(s string) bool { return s == "" })
	return fmt.Errorf("%s is %q; use one of %s", what, value, strings.Join(known, ", "))
}

// Check makes sure that the operations that steps wait for, and those that
// faults are about, exist. They are named as in "ec2:RegisterImage". Targets
// can only be told of where instances are not real, which told says.
func (s *Scenario) Check(operations []string, told bool) error {
	for _, step := range s.Steps {
		if err := step.checkAgainst(operations, told); err != nil {
			return fmt.Errorf("scenario: %s: %w", step.Range, err)
		}
	}
	return nil
}

func (s *Step) checkAgainst(operations []string, told bool) error {
	if s.Call != "" && !slices.Contains(operations, s.Call) {
		return fmt.Errorf("call %q is not an operation of the sandbox; write it as IAM does, as in ec2:RegisterImage", s.Call)
	}
	for _, rule := range s.rules {
		if err := rule.Check(operations); err != nil {
			return err
		}
	}
	if (len(s.Targets) > 0 || s.NewTargets != "") && !told {
		return errors.New("targets of real machines are as healthy as their machines; use --machines none to decide, or make a machine fail")
	}
	return nil
}
