// Package ec2 is the sandbox's EC2: images, snapshots, volumes, instances,
// launch templates, tags, key pairs, security groups and a default VPC.
//
// One file has one subject: its types with their names on the wire, its
// operations and its rules. An operation is a method of region, which is one
// region's page while the books are held; operations.go lists them all.
//
// Snapshots and the files of volumes are kept by package storage, because EBS
// direct has them in common with EC2.
package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/gate"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// Config is what EC2 stands on.
type Config struct {
	Books *state.Books
	Clock *clock.Clock
	Store *storage.Store

	// Host runs the instances. With machine.None they are only states and
	// their volumes have no files.
	Host machine.Host

	// Public is where instances get their public addresses from, and Gates make
	// them reachable there; without gates they are not.
	Public netip.Prefix
	Gates  *gate.Gates

	// Parameter gives the value of an SSM parameter of a region, which may name
	// an image. It is called with the books held.
	Parameter func(region, name string) (value string, found bool)

	// Report is given the errors of work in the background.
	Report func(error)
}

// Service is EC2 in all regions of a sandbox.
type Service struct {
	books     *state.Books
	clock     *clock.Clock
	store     *storage.Store
	pages     *state.Ledger[page]
	addresses *addresses
	shortages *shortages
	runs      *machines
	public    *public
	heralds   *heralds
	parameter func(region, name string) (string, bool)
	report    func(error)
	real      bool                       // instances are machines, volumes have files
	unfilled  map[string]*storage.Blocks // of volumes that have no file yet
	ruled     []func()                   // called after changes of security groups' rules
	retagging map[string][]retagging     // changes of tags that are not seen yet, by the bearer's id

	context context.Context // of work in the background
	cancel  context.CancelFunc

	closed sync.Mutex // guards shut
	shut   bool
	group  sync.WaitGroup
}

// New makes the service and takes up what the books hold of it: instances that
// were running run again.
func New(config Config) (*Service, error) {
	s := &Service{
		books: config.Books, clock: config.Clock, store: config.Store, addresses: newAddresses(),
		shortages: &shortages{sets: map[string][]*Shortage{}},
		parameter: config.Parameter, report: config.Report, real: config.Host != machine.None(),
		unfilled: map[string]*storage.Blocks{}, retagging: map[string][]retagging{},
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.runs = newMachines(s, config.Host)
	s.public = newPublic(s, config.Public, config.Gates)
	s.heralds = &heralds{subscribers: map[*subscriber]struct{}{}, spawn: s.spawn}
	var err error
	if s.pages, err = state.Declare(config.Books, "ec2", newPage); err != nil {
		return nil, err
	}
	s.books.Do(func() {
		for _, name := range s.pages.Regions() {
			err = errors.Join(err, s.in(name).resume())
		}
	})
	return s, err
}

func newPage(string) *page {
	return &page{
		Subnets: map[string]*subnet{}, SecurityGroups: map[string]*securityGroup{}, KeyPairs: map[string]*keyPair{},
		Images: map[string]*image{}, Volumes: map[string]*volume{}, Instances: map[string]*instance{},
		LaunchTemplates: map[string]*launchTemplate{}, ServiceInterfaces: map[string]*serviceInterface{}, Fleets: map[string]*fleetRequest{}, Requests: map[string]*request{},
	}
}

// in gives a region. The books must be held.
func (s *Service) in(name string) *region {
	r := &region{page: s.pages.In(name), name: name, service: s}
	if r.Vpc == nil {
		r.newNetwork()
	}
	return r
}

// Close shuts the machines down, which are launched again when the sandbox is
// opened the next time, and waits for the work in the background. The books
// must not be held; they are not changed any more afterwards. Machines that
// don't shut down before ctx ends are killed.
func (s *Service) Close(ctx context.Context) {
	s.books.Do(s.retagAll)
	s.closed.Lock()
	s.shut = true
	s.closed.Unlock()
	s.runs.close(ctx)
	s.cancel()
	s.group.Wait()
	if err := s.public.close(); err != nil {
		s.report(fmt.Errorf("close the ways to instances: %w", err))
	}
}

func (s *Service) closing() bool {
	s.closed.Lock()
	defer s.closed.Unlock()
	return s.shut
}

// spawn runs f in the background, unless the service is closing.
func (s *Service) spawn(f func()) {
	s.closed.Lock()
	defer s.closed.Unlock()
	if !s.shut {
		s.group.Go(f)
	}
}

// takes carries out what takes AWS some time: at once in a sandbox whose
// transitions take none, else later. The books must be held.
func (s *Service) takes(typical time.Duration, r *region, f func(*region)) {
	if d := s.clock.Transition(typical); d > 0 {
		s.later(d, r, f)
	} else {
		f(r)
	}
}

// later carries something out with the books held once d has passed, and never
// before the caller has let go of them.
func (s *Service) later(d time.Duration, r *region, f func(*region)) {
	name := r.name
	s.clock.After(max(d, 0), func() {
		s.books.Do(func() { f(s.in(name)) })
	})
}

// background does work without the books, after the time that AWS takes.
func (s *Service) background(typical time.Duration, f func(context.Context)) {
	s.clock.After(s.clock.Transition(typical), func() {
		s.spawn(func() { f(s.context) })
	})
}

// resume takes up what was going on in a region when the sandbox ended.
func (r *region) resume() error {
	for _, i := range r.Instances {
		if s := r.Subnets[i.SubnetId]; s != nil && i.State != Terminated {
			r.service.addresses.take(i.Address, s.Cidr)
			r.keepPublic(i)
		}
	}
	for _, i := range r.ServiceInterfaces {
		r.service.addresses.take(i.Address, r.Subnets[i.SubnetId].Cidr)
	}
	if r.service.real {
		if err := r.service.store.SweepVolumes(r.name, func(id string) bool {
			v := r.Volumes[id]
			return v != nil && v.Filled && v.State != volumeDeleted
		}); err != nil {
			return err
		}
	}
	for _, v := range ordered(r.Volumes) {
		if v.Attachment != nil && v.Attachment.Detaching {
			r.detach(v, r.Instances[v.Attachment.InstanceId])
		}
		switch v.State {
		case volumeDeleted:
			delete(r.Volumes, v.Id)
		case volumeCreating:
			r.service.background(0, func(ctx context.Context) { r.service.finishVolume(ctx, r.name, v.Id) })
		}
	}
	for _, i := range r.Images {
		r.imageDone(i.Id)
	}
	for _, i := range ordered(r.Instances) {
		switch i.State {
		case Pending:
			r.start(i)
		case Running:
			r.service.runs.resume(r, i)
		case Stopping, ShuttingDown:
			r.service.later(0, r, func(r *region) { r.ended(i) })
		case Terminated:
			r.forgetLater(i)
		}
	}
	return nil
}
