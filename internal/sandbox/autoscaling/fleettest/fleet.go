// Package fleettest is an EC2 for tests of what works with it: instances that
// are only states, launch templates that are only numbers. And it lets AWS's own
// clients call services without a network, so that time can be a test's.
package fleettest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// VPC is the network of all subnets.
const VPC = "vpc-00000000000000001"

// LaunchTemplate is the one launch template; every version up to Latest exists.
const LaunchTemplate = "lt-00000000000000001"

// Fleet is an EC2 of one region. Instances are running a second after their launch.
type Fleet struct {
	mu      sync.Mutex
	clock   *clock.Clock
	n       int
	members map[string]*ec2.Member
	heard   []func(ec2.StateChange)

	// What tests change by Change.
	Latest int64
	Refuse error // every launch, when set
	SSM    int64 // a version whose image is a Systems Manager parameter
}

// New makes a fleet with two versions of the launch template.
func New(clock *clock.Clock) *Fleet {
	return &Fleet{clock: clock, Latest: 2, members: map[string]*ec2.Member{}}
}

// Change lets a test change the fleet's fields.
func (f *Fleet) Change(how func(f *Fleet)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(f)
}

// Template resolves a version.
func (f *Fleet) Template(ref ec2.TemplateRef, instanceType string) (ec2.Template, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.template(ref, instanceType)
}

func (f *Fleet) template(ref ec2.TemplateRef, instanceType string) (ec2.Template, error) {
	if (ref.ID == "") == (ref.Name == "") {
		return ec2.Template{}, wire.Errorf("InvalidParameterCombination", "The parameters launchTemplateId and launchTemplateName cannot be used together.")
	}
	if ref.ID != LaunchTemplate && ref.Name != "hello" {
		return ec2.Template{}, wire.Errorf("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", ref.ID)
	}
	version := f.Latest
	switch ref.Version {
	case "$Latest":
	case "$Default", "":
		version = 1
	default:
		n, err := strconv.ParseInt(ref.Version, 10, 64)
		if err != nil || n < 1 || n > f.Latest {
			return ec2.Template{}, wire.Errorf("InvalidLaunchTemplateId.VersionNotFound", "Could not find launch template version %s", ref.Version)
		}
		version = n
	}
	t := ec2.Template{ID: LaunchTemplate, Name: "hello", Version: version, ImageID: fmt.Sprintf("ami-%017d", version), InstanceType: "t3.micro", FromSSM: version == f.SSM}
	if instanceType != "" {
		t.InstanceType = instanceType
	}
	return t, nil
}

// Launch starts instances.
func (f *Fleet) Launch(_ context.Context, o ec2.LaunchOrder) ([]ec2.Member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Refuse != nil {
		return nil, f.Refuse
	}
	t, err := f.template(o.Template, o.InstanceType)
	if err != nil {
		return nil, err
	}
	place, _ := f.Subnet(o.SubnetID)
	members := make([]ec2.Member, o.Count)
	for i := range members {
		f.n++
		m := &ec2.Member{
			ID: fmt.Sprintf("i-%017x", f.n), State: ec2.Pending, SubnetID: o.SubnetID, Zone: place.Zone,
			Address:      netip.AddrFrom4([4]byte{172, 31, byte(f.n >> 8), byte(f.n)}),
			InstanceType: t.InstanceType, ImageID: t.ImageID, Launched: f.clock.Now(), Template: t,
		}
		f.members[m.ID] = m
		members[i] = *m
		f.clock.After(time.Second, func() { f.To(m.ID, ec2.Running) })
	}
	return members, nil
}

// Reopen gives the fleet to a sandbox that is opened anew.
func (f *Fleet) Reopen(clock *clock.Clock) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock, f.heard = clock, nil
	for id, m := range f.members {
		if m.State == ec2.Pending {
			f.clock.After(time.Second, func() { f.To(id, ec2.Running) })
		}
	}
}

// Terminate ends an instance at once.
func (f *Fleet) Terminate(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock.After(0, func() { f.To(id, ec2.Terminated) })
	return nil
}

// To brings an instance into a state, unless it is terminated.
func (f *Fleet) To(id string, to ec2.InstanceState) {
	f.mu.Lock()
	m, ok := f.members[id]
	if !ok || m.State == ec2.Terminated || to == ec2.Running && m.State != ec2.Pending {
		f.mu.Unlock()
		return
	}
	change := ec2.StateChange{InstanceID: id, From: m.State, To: to}
	m.State = to
	heard := f.heard
	f.mu.Unlock()
	for _, h := range heard {
		h(change)
	}
}

// Member describes an instance.
func (f *Fleet) Member(id string) (ec2.Member, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.members[id]; ok {
		return *m, true
	}
	return ec2.Member{}, false
}

// Subnet describes one of three.
func (f *Fleet) Subnet(id string) (ec2.SubnetPlace, bool) {
	for _, p := range f.Subnets() {
		if p.ID == id {
			return p, true
		}
	}
	return ec2.SubnetPlace{}, false
}

// Subnets lists the three.
func (f *Fleet) Subnets() []ec2.SubnetPlace {
	var places []ec2.SubnetPlace
	for _, z := range []string{"a", "b", "c"} {
		places = append(places, ec2.SubnetPlace{ID: "subnet-" + z, Zone: Region + z, VpcID: VPC})
	}
	return places
}

// Subscribe tells of changes.
func (f *Fleet) Subscribe(heard func(ec2.StateChange)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, heard)
	return func() {}
}

// Region is the region of the clients.
const Region = "eu-west-1"

// Config is the configuration of clients of the services.
func Config(t testing.TB, books *state.Books, clock *clock.Clock, services ...*api.Service) aws.Config {
	t.Helper()
	return aws.Config{
		Region: Region, BaseEndpoint: aws.String("http://127.0.0.1"), RetryMaxAttempts: 1,
		HTTPClient:  direct{door.New(door.Config{Books: books, Clock: clock, Services: services})},
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""),
	}
}

// direct is an HTTP client that calls a handler.
type direct struct{ http.Handler }

func (d direct) Do(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Host = r.URL.Host
	d.ServeHTTP(w, r)
	return w.Result(), nil
}
