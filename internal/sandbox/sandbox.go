// Package sandbox is a local AWS: the services that a bake and a rollout need,
// in AWS's own protocols, on one port of the loopback interface.
//
// A service is a folder; within it a file is a subject, holding its types on
// the wire, its operations and its rules. Below the services are
//
//	door       where calls come in; what happens to every call
//	calls      the call log
//	fault      which calls go wrong
//	quota      how often operations may be called
//	scenario   what happens at given moments
//	policy     IAM policies: what callers may do
//	api, wire  how operations are registered; the protocols
//	state      what the sandbox knows, under one lock, and its files
//	storage    snapshots and volumes; block stores their blocks
//	clock      time
//	machine    real instances
//	gate       ways from this machine to real instances
//	balancer   real load balancers
//
// The sandbox imports nothing of the plugin, and the plugin only its command,
// so that the two can't agree on a mistake.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/calls"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/policy"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/quota"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/scenario"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// DefaultRegion is where the base disk becomes an image unless regions are
// given.
const DefaultRegion = "eu-west-1"

// Options are the choices for a sandbox.
type Options struct {
	Listen    string        // loopback address and port; port 0 picks a free one
	StateDir  string        // kept; when empty a temporary one, removed on Close
	BaseDisk  string        // raw disk that becomes the public Amazon Linux 2023 image; none when empty
	Regions   []string      // with that image; DefaultRegion when empty
	Machines  Machines      // whether instances are real
	Profile   clock.Profile // how long AWS's own work takes
	TimeScale float64       // multiplies all waiting
	// LaunchConfigurations lets them be made, as in accounts from before
	// 2024-10-01.
	LaunchConfigurations bool
	CallLog              io.Writer    // gets a line of JSON for each call; may be nil
	Faults               []fault.Rule // which calls go wrong
	Seed                 uint64       // picks the calls that they strike
	Rates                bool         // limits how often operations may be called
	// Scenario is what happens from when the sandbox serves; nil for nothing.
	Scenario *scenario.Scenario
	Policies policy.Set  // what callers may do; those that it does not know may do everything
	Report   func(error) // gets what fails in the background
}

// Machines says what instances are.
type Machines string

// The kinds of machines.
const (
	Container Machines = "container" // systemd-nspawn containers
	None      Machines = "none"      // only states
)

// Sandbox is an open sandbox.
type Sandbox struct {
	listener net.Listener
	server   *http.Server
	log      *calls.Log
	clock    *clock.Clock
	books    *state.Books
	services services
	begin    func()         // begins the scenario; may be nil
	play     *scenario.Play // nil without a scenario

	closers []func() error // what undoes Open, in its order
}

// Open opens a sandbox: it listens, but answers only once Serve is called. The
// base disk is imported if it is new, which takes some seconds.
func Open(ctx context.Context, options Options) (s *Sandbox, err error) {
	s = &Sandbox{log: calls.New(options.CallLog)}
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.Close())
		}
	}()
	if s.listener, err = listen(ctx, options.Listen); err != nil {
		return s, err
	}
	s.onClose(func() error { return ignoreClosed(s.listener.Close()) })
	if err := s.openBooks(options); err != nil {
		return s, err
	}
	s.onClose(s.books.Close)
	if s.clock, err = clock.New(options.Profile, options.TimeScale); err != nil {
		return s, err
	}
	if err := s.open(options); err != nil {
		return s, err
	}
	if err := s.seed(ctx, options); err != nil {
		return s, err
	}
	faults, err := s.faults(options)
	if err != nil {
		return s, err
	}
	if err := s.rehearse(options, faults); err != nil {
		return s, err
	}
	var rates *quota.Rates
	if options.Rates {
		rates = quota.New(s.clock)
	}
	s.server = &http.Server{
		Handler:           door.New(door.Config{Books: s.books, Clock: s.clock, Log: s.log, Faults: faults, Rates: rates, Called: s.called, Guard: options.Policies, Services: s.services.apis()}),
		ReadHeaderTimeout: time.Minute,
	}
	s.server.RegisterOnShutdown(faults.Stop)
	return s, nil
}

// operations lists what the sandbox serves, as in ec2:RegisterImage.
func (s *Sandbox) operations() (all []string) {
	for _, service := range s.services.apis() {
		for _, operation := range service.Operations() {
			all = append(all, service.Name+":"+operation)
		}
	}
	return all
}

// rehearse makes the scenario ready to begin.
func (s *Sandbox) rehearse(options Options, faults *fault.Faults) error {
	if options.Scenario == nil {
		return nil
	}
	if err := options.Scenario.Check(s.operations(), s.services.states != nil); err != nil {
		return err
	}
	region := DefaultRegion
	if len(options.Regions) > 0 {
		region = options.Regions[0]
	}
	s.begin = func() { s.play = options.Scenario.Begin(stage{s, faults}, s.clock, region, options.Report) }
	return nil
}

func (s *Sandbox) called(operation string) { s.play.Called(operation) }

// faults checks the rules against what the sandbox serves.
func (s *Sandbox) faults(options Options) (*fault.Faults, error) {
	operations := s.operations()
	for _, rule := range options.Faults {
		if err := rule.Check(operations); err != nil {
			return nil, err
		}
	}
	rules := options.Faults
	if options.Profile == clock.Typical {
		rules = append(slices.Clone(rules), typicallyLate)
	}
	return fault.New(options.Seed, rules...), nil
}

// typicallyLate is how late what was created is seen in the typical profile:
// "approximately 9/10 attempts succeed without any retry", the others with
// "simple retries 5s apart" (https://github.com/hashicorp/packer/issues/3377;
// also https://github.com/ansible/ansible/pull/4368, "roughly 1 time out of 10").
var typicallyLate = fault.Rule{Operations: "ec2:*", Kind: fault.Late, When: fault.Before, Rate: 0.1, For: 5 * time.Second}

// listen listens on a loopback address only: the sandbox trusts every caller.
func listen(ctx context.Context, address string) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w; give a loopback address and a port, such as 127.0.0.1:4566", address, err)
	}
	if !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %q: the sandbox serves this host only; give a loopback address such as 127.0.0.1:4566", address)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", resolved.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w; give --listen another port, or end what uses this one", address, err)
	}
	return listener, nil
}

// URL is the endpoint of every service.
func (s *Sandbox) URL() string { return "http://" + s.listener.Addr().String() }

// Port is the port of the endpoint.
func (s *Sandbox) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Serve answers calls until ctx ends. Calls that are under way then have a few
// seconds to end.
func (s *Sandbox) Serve(ctx context.Context) error {
	if s.begin != nil {
		s.begin()
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.endCalls(context.WithoutCancel(ctx))
	})
	err := s.server.Serve(s.listener)
	if !stop() {
		<-ended
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.URL(), err)
	}
	return nil
}

func (s *Sandbox) endCalls(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close() // only what was cut off could tell of it
	}
}

func (s *Sandbox) onClose(undo func() error) { s.closers = append(s.closers, undo) }

// Close stops all machines, saves the state and gives everything back.
func (s *Sandbox) Close() error {
	if s.clock != nil {
		s.clock.Stop() // nothing begins any more
	}
	var errs []error
	for _, undo := range slices.Backward(s.closers) {
		errs = append(errs, undo())
	}
	s.closers = nil
	return errors.Join(append(errs, s.log.Close())...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
