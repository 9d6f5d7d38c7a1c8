package ec2

import (
	"context"
	"net/netip"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// Fleet is what EC2 Auto Scaling asks of EC2 in one region, in process. All but
// Subscribe are called with the books held. Errors are *wire.Error with EC2's
// codes and messages (InvalidLaunchTemplateId.NotFound, InvalidAMIID.NotFound
// …), for the caller to wrap as its own service does.
type Fleet interface {
	// Template resolves a reference to a version that exists and checks that
	// an instance could be run from it: it has an image that is available and,
	// unless instanceType is given in its place, an instance type that fits it.
	Template(ref TemplateRef, instanceType string) (Template, error)

	// Launch runs instances in the subnet and returns them, pending. All of
	// them are run or none.
	Launch(ctx context.Context, order LaunchOrder) ([]Member, error)

	// Terminate begins to terminate an instance. One that is terminated
	// already, or is gone, is no error.
	Terminate(ctx context.Context, instanceID string) error

	// Member describes an instance; false when EC2 no longer knows it.
	Member(instanceID string) (Member, bool)

	// Subnet describes a subnet; false when there is none of that id.
	Subnet(subnetID string) (SubnetPlace, bool)

	// Subnets lists the default subnet of each zone, by zone.
	Subnets() []SubnetPlace

	Interfaces

	// Subscribe calls heard for each change of an instance's state, one call at
	// a time, in their order, and without the books held. The returned function
	// ends it.
	Subscribe(heard func(StateChange)) (cancel func())
}

// TemplateRef names a launch template version as a caller wrote it.
type TemplateRef struct {
	ID, Name string // one of them
	Version  string // a number, "$Latest" or "$Default", which is also meant by ""
}

// Template is a launch template version that exists.
type Template struct {
	ID, Name     string
	Version      int64
	ImageID      string // resolved, also where the template names an SSM parameter
	FromSSM      bool   // the template names its image by resolve:ssm
	InstanceType string
	Permissions  []api.Action // of who uses the template; only Fleet.Template gives them
}

// LaunchOrder says what Launch is to run.
type LaunchOrder struct {
	Template     TemplateRef
	Count        int
	SubnetID     string
	InstanceType string            // in place of the template's, when not empty
	Tags         map[string]string // onto the instances, over the template's; aws: keys are allowed
}

// InstanceState is the state of an instance.
type InstanceState string

// The states of an instance.
const (
	Pending      InstanceState = "pending"
	Running      InstanceState = "running"
	ShuttingDown InstanceState = "shutting-down"
	Terminated   InstanceState = "terminated"
	Stopping     InstanceState = "stopping"
	Stopped      InstanceState = "stopped"
)

// Member is an instance as a group sees it.
type Member struct {
	ID           string
	State        InstanceState
	Reason       string // why it is in this state, as DescribeInstances has it; empty when running
	Address      netip.Addr
	SubnetID     string
	Zone         string
	InstanceType string
	ImageID      string
	Launched     time.Time
	Template     Template
}

// SubnetPlace is where a subnet lies.
type SubnetPlace struct {
	ID, Zone, VpcID string
}

// StateChange tells that an instance has come to a state.
type StateChange struct {
	InstanceID string
	From, To   InstanceState
	Reason     string
}

// Fleet gives the fleet of a region.
func (s *Service) Fleet(regionName string) Fleet { return fleet{s, regionName} }

type fleet struct {
	service *Service
	name    string
}

func (f fleet) region() *region { return f.service.in(f.name) }

// templateOrder makes an order from a launch template version.
func (r *region) templateOrder(ref TemplateRef, instanceType string) (order, error) {
	template, err := r.template(launchTemplateRef{ref.ID, ref.Name})
	if err != nil {
		return order{}, err
	}
	version, err := template.version(ref.Version)
	if err != nil {
		return order{}, err
	}
	o := order{data: launchData{InstanceType: instanceType}, fleet: true}
	o.from(template, version)
	return o, nil
}

func (f fleet) Template(ref TemplateRef, instanceType string) (Template, error) {
	r := f.region()
	o, err := r.templateOrder(ref, instanceType)
	if err != nil {
		return Template{}, err
	}
	// No instance is asked for: whether there is room is asked at a launch.
	p, err := r.plan(o)
	if err != nil {
		return Template{}, err
	}
	found := *o.template
	found.Permissions = r.launching(p)
	return found, nil
}

func (f fleet) Launch(_ context.Context, wanted LaunchOrder) ([]Member, error) {
	r := f.region()
	o, err := r.templateOrder(wanted.Template, wanted.InstanceType)
	if err != nil {
		return nil, err
	}
	o.least, o.count, o.subnetID = wanted.Count, wanted.Count, wanted.SubnetID
	for key, value := range wanted.Tags {
		o.extra[key] = value
	}
	planned, err := r.plan(o)
	if err != nil {
		return nil, err
	}
	var members []Member
	for _, i := range r.run(planned) {
		members = append(members, i.member())
	}
	return members, nil
}

func (f fleet) Terminate(_ context.Context, instanceID string) error {
	r := f.region()
	if i := r.Instances[instanceID]; i != nil {
		r.terminate(i, false)
	}
	return nil
}

func (f fleet) Member(instanceID string) (Member, bool) {
	i := f.region().Instances[instanceID]
	if i == nil {
		return Member{}, false
	}
	return i.member(), true
}

func (i *instance) member() Member {
	m := Member{
		ID: i.Id, State: i.State, Address: i.Address, SubnetID: i.SubnetId, Zone: i.Zone, InstanceType: i.Type,
		ImageID: i.ImageId, Launched: i.Launched,
	}
	if i.Reason != nil {
		m.Reason = i.Reason.Message
	}
	if i.Template != nil {
		m.Template = *i.Template
	}
	return m
}

func (f fleet) Subnet(subnetID string) (SubnetPlace, bool) {
	r := f.region()
	s := r.Subnets[subnetID]
	if s == nil {
		return SubnetPlace{}, false
	}
	return SubnetPlace{s.Id, s.Zone, r.Vpc.Id}, true
}

func (f fleet) Subnets() []SubnetPlace {
	r := f.region()
	var places []SubnetPlace
	for _, s := range ordered(r.Subnets) {
		places = append(places, SubnetPlace{s.Id, s.Zone, r.Vpc.Id})
	}
	return places
}

func (f fleet) Subscribe(heard func(StateChange)) (cancel func()) {
	return f.service.heralds.subscribe(f.name, heard)
}
