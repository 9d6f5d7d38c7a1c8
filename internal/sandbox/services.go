package sandbox

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/balancer"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/cloudwatch"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ebs"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/gate"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/instanceconnect"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ssm"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/sts"
)

// services are the sandbox's services and what they stand on.
type services struct {
	storage *storage.Store
	host    machine.Host

	sts         *api.Service
	ssm         *ssm.Service
	ec2         *ec2.Service
	ebs         *ebs.Service
	connect     *api.Service
	elbv2       *elbv2.Service
	states      *elbv2.States // nil where machines are real
	cloudwatch  *cloudwatch.Service
	autoscaling *autoscaling.Service
}

// apis lists what the door opens to.
func (s *services) apis() []*api.Service {
	return []*api.Service{
		s.sts, s.ssm.API(), s.ec2.API(), s.ebs.API(), s.connect, s.elbv2.API(), s.cloudwatch.API(), s.autoscaling.API(),
	}
}

// network is the default VPC of every region; their instances share it.
var network = netip.MustParsePrefix("172.31.0.0/16")

// patience is how long instances may take to shut down when the sandbox ends.
const patience = 30 * time.Second

// open opens the services, each after those that it stands on.
func (s *Sandbox) open(options Options) error {
	var err error
	v := &s.services
	v.sts = sts.New(s.clock)
	if v.storage, err = storage.Open(s.books); err != nil {
		return err
	}
	s.onClose(v.storage.Close)
	if v.host, err = newHost(options.Machines); err != nil {
		return err
	}
	s.onClose(v.host.Close)
	if v.ssm, err = ssm.New(s.books, s.clock); err != nil {
		return err
	}
	gates, err := s.openGates(options)
	if err != nil {
		return err
	}
	if v.ec2, err = ec2.New(ec2.Config{
		Books: s.books, Clock: s.clock, Store: v.storage, Host: v.host, Public: s.publicAddresses(options.Machines), Gates: gates,
		Parameter: v.ssm.Value, Report: options.Report,
	}); err != nil {
		return err
	}
	s.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		v.ec2.Close(ctx)
		return nil
	})
	if v.ebs, err = ebs.New(s.books, s.clock, v.storage, v.ec2); err != nil {
		return err
	}
	v.connect = instanceconnect.New(s.clock, v.ec2)
	return s.openGroups(options)
}

// openGates opens what makes real instances reachable from this machine.
func (s *Sandbox) openGates(options Options) (*gate.Gates, error) {
	if options.Machines != Container {
		return nil, nil
	}
	gates, err := gate.New()
	if err == nil {
		s.onClose(gates.Close)
	}
	return gates, err
}

// publicAddresses are those that instances get. Real ones have loopback
// addresses: the upper half of 127.x.y.0/24, with the sandbox's port as x and y,
// whose lower half is load balancers'. States need more, and no way to them:
// they have the range for benchmarks (RFC 2544), which the internet does not
// use.
func (s *Sandbox) publicAddresses(machines Machines) netip.Prefix {
	if machines == Container {
		port := s.port()
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(port >> 8), byte(port), 128}), 25)
	}
	return netip.MustParsePrefix("198.18.0.0/15")
}

// openGroups opens load balancing and the groups behind it.
func (s *Sandbox) openGroups(options Options) error {
	var err error
	v := &s.services
	var plane elbv2.Plane
	if options.Machines == Container {
		real := balancer.New(v.host.DialFrom)
		s.onClose(real.Close)
		plane = real
	} else {
		v.states = elbv2.NewStates(s.clock)
		plane = v.states
	}
	if v.elbv2, err = elbv2.New(s.books, s.clock, v.ec2.Fleet, plane, s.port()); err != nil {
		return err
	}
	if v.cloudwatch, err = cloudwatch.New(s.books, s.clock); err != nil {
		return err
	}
	v.autoscaling, err = autoscaling.New(s.books, s.clock, v.ec2.Fleet, v.elbv2, v.cloudwatch, autoscaling.Options{LaunchConfigurations: options.LaunchConfigurations})
	return err
}

func newHost(machines Machines) (machine.Host, error) {
	switch machines {
	case Container:
		return machine.New(network)
	case None:
		return machine.None(), nil
	}
	return nil, fmt.Errorf("machines %q are not known: use %s or %s", machines, Container, None)
}
