package ec2

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Shortage is a rule by which EC2 lacks capacity: it refuses to launch
// instances, whoever asks for them.
type Shortage struct {
	InstanceType string `json:"instance_type,omitempty"` // * and ? stand for any characters and one; empty for any type
	Zone         string `json:"zone,omitempty"`          // its name, likewise; empty for any zone
	Lifecycle    string `json:"lifecycle,omitempty"`     // "spot" or "on-demand"; empty for both
	Code         string `json:"code,omitempty"`          // of the error; InsufficientInstanceCapacity when empty
	Room         int    `json:"room,omitempty"`          // instances that are launched before launches are refused
	Times        int    `json:"times,omitempty"`         // refusals after which the rule is over; 0 for none
}

// The codes of the errors of launches that lack capacity
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
const (
	InsufficientInstanceCapacity = "InsufficientInstanceCapacity" // the zone has no more of the type
	Unsupported                  = "Unsupported"                  // the zone never has the type
	MaxSpotInstanceCountExceeded = "MaxSpotInstanceCountExceeded" // the account's quota of Spot Instances
	VcpuLimitExceeded            = "VcpuLimitExceeded"            // the account's quota of On-Demand Instances
	SpotMaxPriceTooLow           = "SpotMaxPriceTooLow"           // the Spot price is above what is offered
)

// The lifecycles of instances.
const (
	spotLifecycle     = "spot"
	onDemandLifecycle = "on-demand"
)

// Check refuses a rule that could never apply.
func (s Shortage) Check() error {
	codes := []string{"", InsufficientInstanceCapacity, Unsupported, MaxSpotInstanceCountExceeded, VcpuLimitExceeded, SpotMaxPriceTooLow}
	switch {
	case !slices.Contains(codes, s.Code):
		return fmt.Errorf("a shortage with the code %q is not known; use one of %s", s.Code, quoteAll(codes[1:]))
	case !slices.Contains([]string{"", spotLifecycle, onDemandLifecycle}, s.Lifecycle):
		return fmt.Errorf("a shortage of the lifecycle %q is not known; use %q, %q or none for both", s.Lifecycle, spotLifecycle, onDemandLifecycle)
	case (s.Code == MaxSpotInstanceCountExceeded || s.Code == SpotMaxPriceTooLow) && s.Lifecycle == onDemandLifecycle:
		return fmt.Errorf("a shortage with the code %s is of Spot Instances, not of the lifecycle %q", s.Code, s.Lifecycle)
	case s.Room < 0 || s.Times < 0:
		return fmt.Errorf("a shortage has room for %d instances and ends after %d refusals; neither can be less than 0", s.Room, s.Times)
	}
	for name := range instanceTypes {
		if s.InstanceType == "" || matches(s.InstanceType, name) {
			return nil
		}
	}
	return fmt.Errorf("a shortage of the instance type %q: the sandbox has no such type", s.InstanceType)
}

// shortages are the rules of all regions. They are not saved: who has made them
// makes them again.
type shortages struct {
	mu   sync.Mutex
	sets map[string][]*Shortage // by region
}

// SetShortages puts rules in the place of all that a region has. The first that
// applies to a launch decides about it.
func (s *Service) SetShortages(region string, rules ...Shortage) error {
	kept := make([]*Shortage, len(rules))
	for i, rule := range rules {
		if err := rule.Check(); err != nil {
			return err
		}
		kept[i] = &rule
	}
	s.shortages.mu.Lock()
	defer s.shortages.mu.Unlock()
	s.shortages.sets[region] = kept
	return nil
}

// pool is where capacity comes from: a type in a zone, bought one way.
type pool struct {
	kind      *instanceType
	zone      string
	lifecycle string
}

func (s *Shortage) applies(to pool) bool {
	switch {
	case s.InstanceType != "" && !matches(s.InstanceType, to.kind.Name), s.Zone != "" && !matches(s.Zone, to.zone):
		return false
	case s.Code == MaxSpotInstanceCountExceeded || s.Code == SpotMaxPriceTooLow:
		return to.lifecycle == spotLifecycle
	case s.Code == VcpuLimitExceeded && s.Lifecycle == "":
		return to.lifecycle == onDemandLifecycle
	}
	return s.Lifecycle == "" || s.Lifecycle == to.lifecycle
}

// ask tells how many of the wanted instances a pool has room for, and by which
// code it lacks the others, which is empty when it lacks none. Fewer than the
// least that the caller can do with are a refusal.
func (s *shortages) ask(region string, from pool, least, wanted int) (room int, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, rule := range s.sets[region] {
		if !rule.applies(from) || rule.Room >= wanted {
			continue
		}
		code = rule.Code
		if code == "" {
			code = InsufficientInstanceCapacity
		}
		room = rule.Room
		if room < least && rule.Times > 0 {
			if rule.Times--; rule.Times == 0 {
				s.sets[region] = slices.Delete(slices.Clone(s.sets[region]), i, i+1)
			}
		}
		return room, code
	}
	return wanted, ""
}

// take uses up the room that rules leave. What it returns gives it back.
func (s *shortages) take(region string, from pool, count int) (back func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := map[*Shortage]int{}
	for _, rule := range s.sets[region] {
		if rule.applies(from) {
			taken[rule] = min(rule.Room, count)
			rule.Room -= taken[rule]
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for rule, n := range taken {
			rule.Room += n
		}
	}
}

// offers tells whether a zone ever has a type.
func (s *shortages) offers(region, zone string, kind *instanceType) bool {
	for _, lifecycle := range []string{onDemandLifecycle, spotLifecycle} {
		if _, code := s.peek(region, pool{kind, zone, lifecycle}); code != Unsupported {
			return true
		}
	}
	return false
}

// has tells whether a pool has room for one instance.
func (s *shortages) has(region string, from pool) bool {
	room, _ := s.peek(region, from)
	return room > 0
}

// peek is ask for one instance, without the consequences.
func (s *shortages) peek(region string, from pool) (room int, code string) {
	return s.ask(region, from, 0, 1)
}

// lacks is the error of a pool that lacks capacity. The messages are those
// that callers have reported: hashicorp/terraform-provider-aws#1496,
// firesim/firesim#410 and #872, osbuild/osbuild-composer#4507,
// aws/aws-parallelcluster#340, aws/aws-parallelcluster-node#415.
func (r *region) lacks(code string, p *plan, from pool) error {
	name := from.kind.Name
	switch code {
	case Unsupported:
		others := r.zonesThat(func(zone string) bool { return r.service.shortages.offers(r.name, zone, from.kind) })
		return fail(code, "Your requested instance type (%s) is not supported in your requested Availability Zone (%s). Please retry your request by not specifying an Availability Zone%s.", name, from.zone, orChoosing(others))
	case MaxSpotInstanceCountExceeded:
		return fail(code, "Max spot instance count exceeded")
	case VcpuLimitExceeded:
		return fail(code, "You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.", r.vcpus(from.lifecycle))
	case SpotMaxPriceTooLow:
		highest := dollars(from.kind.price())
		return spotPriceTooLow(cmp.Or(p.data.InstanceMarketOptions.maxPrice(), highest), 2*from.kind.price())
	}
	if from.lifecycle == spotLifecycle {
		return noCapacity("There is no Spot capacity available that matches your request.")
	}
	text := fmt.Sprintf("We currently do not have sufficient %s capacity in the Availability Zone you requested (%s). Our system will be working on provisioning additional capacity.", name, from.zone)
	if others := r.zonesThat(func(zone string) bool { return r.service.shortages.has(r.name, pool{from.kind, zone, from.lifecycle}) }); len(others) > 0 {
		text += fmt.Sprintf(" You can currently get %s capacity by not specifying an Availability Zone in your request%s.", name, orChoosing(others))
	}
	return noCapacity(text)
}

// noCapacity is an error of EC2's server, which AWS's SDKs repeat.
func noCapacity(text string) error {
	return wire.Errorf(InsufficientInstanceCapacity, "%s", text).With(http.StatusInternalServerError)
}

// zonesThat lists the zones for which a condition holds.
func (r *region) zonesThat(hold func(zone string) bool) []string {
	var zones []string
	for _, s := range ordered(r.Subnets) {
		if !slices.Contains(zones, s.Zone) && hold(s.Zone) {
			zones = append(zones, s.Zone)
		}
	}
	return zones
}

func orChoosing(zones []string) string {
	if len(zones) == 0 {
		return ""
	}
	return " or choosing " + strings.Join(zones, ", ")
}

// vcpus counts the vCPUs of the instances that are not stopped or terminated.
func (r *region) vcpus(lifecycle string) int {
	count := 0
	for _, i := range r.Instances {
		if i.lifecycle() == lifecycle && (i.State == Pending || i.State == Running) {
			count += instanceTypes[i.Type].Cpus
		}
	}
	return count
}
