package ec2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

// machines runs the instances. Where machines are real, an instance's start is
// a machine's launch and its end a machine's; where they are not, both take
// only their time. What it holds is changed with the books held.
type machines struct {
	service  *Service
	host     machine.Host
	slots    chan struct{} // limits how many launches there are at once
	running  map[string]*run
	consoles map[string]*console
}

// run is one start of an instance and what follows. Whether a run is still the
// instance's tells whether its outcome matters.
type run struct {
	machine machine.Machine // nil until it is launched
	ending  bool            // it was asked to end
	hard    bool            // without a shutdown
	after   time.Duration
}

// launchesAtOnce is how many machines are made and launched at the same time:
// more only make each slower.
const launchesAtOnce = 4

func newMachines(s *Service, host machine.Host) *machines {
	return &machines{
		service: s, host: host, slots: make(chan struct{}, launchesAtOnce),
		running: map[string]*run{}, consoles: map[string]*console{},
	}
}

// begin starts a pending instance.
func (m *machines) begin(r *region, i *instance) {
	if !m.service.real {
		m.service.later(m.service.clock.Transition(clock.Launch), r, func(r *region) {
			if i.State == Pending {
				r.started(i)
			}
		})
		return
	}
	one := &run{}
	m.running[i.Id] = one
	m.service.background(clock.Launch, func(ctx context.Context) { m.start(ctx, r.name, i.Id, one) })
}

// start launches the machine of a pending instance. The books must not be held.
func (m *machines) start(ctx context.Context, regionName, id string, one *run) {
	launched, err := m.launch(ctx, regionName, id, one)
	if m.service.closing() {
		m.abandon(launched)
		return
	}
	m.service.books.Do(func() {
		r := m.service.in(regionName)
		i := r.Instances[id]
		one.machine = launched
		switch {
		case err != nil && one.ending:
			m.over(r, i, one)
		case err != nil:
			delete(m.running, id)
			r.failed(i, err)
		default:
			if !one.ending {
				r.started(i)
			}
			m.follow(regionName, id, one)
		}
	})
}

// abandon ends a machine that was launched while the sandbox closes. Its
// instance starts again with the sandbox.
func (m *machines) abandon(launched machine.Machine) {
	if launched != nil {
		launched.Kill()
		<-launched.Done()
	}
}

// errUnwanted is what a launch ends with when it is not wanted any more.
var errUnwanted = errors.New("it was asked to end before it was started")

// launch makes the volumes that have yet to be made and launches a machine.
// The books must not be held.
func (m *machines) launch(ctx context.Context, regionName, id string, one *run) (machine.Machine, error) {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var spec machine.Spec
	var unfilled []string
	err := errUnwanted
	m.service.books.Read(func() {
		r := m.service.in(regionName)
		i := r.Instances[id]
		if i == nil || one.ending {
			return
		}
		spec, unfilled, err = m.spec(r, i)
		m.service.enforce() // before it can be reached
	})
	if err != nil {
		return nil, err
	}
	for _, volumeID := range unfilled {
		if err := m.service.fill(ctx, regionName, volumeID); err != nil {
			return nil, err
		}
	}
	return m.host.Launch(ctx, spec)
}

// spec says what machine an instance is, and which of its volumes have no file
// yet.
func (m *machines) spec(r *region, i *instance) (spec machine.Spec, unfilled []string, err error) {
	spec = machine.Spec{
		ID: i.Id, Hostname: r.hostname(i.Address), Address: i.Address, Console: m.console(i.Id),
		Metadata: m.service.metadata(r.name, i.Id), MetadataOptions: m.service.metadataOptions(r.name, i.Id),
	}
	if spec.UserData, err = i.Launch.userData(); err != nil {
		return spec, nil, err
	}
	for _, id := range i.Volumes {
		v := r.Volumes[id]
		if !v.Filled {
			unfilled = append(unfilled, id)
		}
		disk, err := m.service.store.VolumePath(r.name, id)
		switch {
		case err != nil:
			return spec, nil, err
		case v.Attachment.Device == i.RootDeviceName:
			spec.Disk = disk
		case !v.Attachment.Detaching:
			spec.Volumes = append(spec.Volumes, machine.Volume{Device: v.Attachment.device(), Disk: disk})
		}
	}
	if spec.Disk == "" {
		return spec, nil, fmt.Errorf("instance %s has no root volume %s", i.Id, i.RootDeviceName)
	}
	return spec, unfilled, nil
}

// watch waits for a machine to end.
func (m *machines) watch(regionName, id string, one *run) {
	<-one.machine.Done()
	if m.service.closing() {
		return
	}
	m.service.books.Do(func() {
		r := m.service.in(regionName)
		if m.running[id] != one || one.ending {
			return
		}
		delete(m.running, id)
		r.ceased(r.Instances[id])
	})
}

// end ends an instance that is stopping or shutting down, in about the time
// that AWS takes.
func (m *machines) end(r *region, i *instance, typical time.Duration, hard bool) {
	after := m.service.clock.Transition(typical)
	one := m.running[i.Id]
	switch {
	case one == nil:
		m.service.later(after, r, func(r *region) { r.ended(i) })
		return
	case one.ending: // it is stopping, and now to be terminated
		return
	}
	one.ending, one.hard, one.after = true, hard, after
	if one.machine != nil {
		m.shut(r.name, i.Id, one)
	}
}

// shut shuts a machine down and follows its end.
func (m *machines) shut(regionName, id string, one *run) {
	m.service.spawn(func() {
		if one.hard {
			one.machine.Kill()
			<-one.machine.Done()
		} else if err := one.machine.Stop(m.service.context); err != nil && !m.service.closing() {
			m.service.report(fmt.Errorf("stop instance %s: %w", id, err))
		}
		if m.service.closing() {
			return
		}
		m.service.books.Do(func() {
			r := m.service.in(regionName)
			m.over(r, r.Instances[id], one)
		})
	})
}

// over ends a run that was asked to end.
func (m *machines) over(r *region, i *instance, one *run) {
	delete(m.running, i.Id)
	m.service.later(one.after, r, func(r *region) { r.ended(i) })
}

// reboot shuts a machine down and starts it again, while the instance goes on
// running.
func (m *machines) reboot(r *region, i *instance) { m.pause(r, i, func(context.Context) {}) }

// pause shuts a machine down, does something with its volumes, and starts it
// again, while the instance goes on running. Where machines are not real it
// only does it.
func (m *machines) pause(r *region, i *instance, meanwhile func(context.Context)) {
	before := m.running[i.Id]
	if before == nil || before.machine == nil || before.ending {
		m.service.background(0, meanwhile)
		return
	}
	next := &run{}
	m.running[i.Id] = next
	name, id := r.name, i.Id
	m.service.spawn(func() {
		if err := before.machine.Stop(m.service.context); err != nil && !m.service.closing() {
			m.service.report(fmt.Errorf("reboot instance %s: %w", id, err))
		}
		meanwhile(m.service.context)
		m.relaunch(name, id, next)
	})
}

// relaunch launches a machine of an instance that counts as running.
func (m *machines) relaunch(regionName, id string, one *run) {
	launched, err := m.launch(m.service.context, regionName, id, one)
	if m.service.closing() {
		m.abandon(launched)
		return
	}
	m.service.books.Do(func() {
		r := m.service.in(regionName)
		i := r.Instances[id]
		one.machine = launched
		switch {
		case err != nil && one.ending:
			m.over(r, i, one)
		case err != nil:
			m.service.report(fmt.Errorf("restart instance %s: %w", id, err))
			delete(m.running, id)
			r.ceased(i)
		default:
			m.follow(regionName, id, one)
		}
	})
}

// follow watches a machine that was launched, and shuts it down if that was
// asked for meanwhile.
func (m *machines) follow(regionName, id string, one *run) {
	r := m.service.in(regionName)
	r.openGate(r.Instances[id])
	m.service.spawn(func() { m.watch(regionName, id, one) })
	if one.ending {
		m.shut(regionName, id, one)
	}
}

// close shuts all machines down. The books must not be held.
func (m *machines) close(ctx context.Context) {
	up := map[string]machine.Machine{}
	m.service.books.Read(func() {
		for id, one := range m.running {
			if one.machine != nil {
				up[id] = one.machine
			}
		}
		clear(m.running)
	})
	var all sync.WaitGroup
	for id, one := range up {
		all.Go(func() {
			if err := one.Stop(ctx); err != nil {
				m.service.report(fmt.Errorf("stop instance %s: %w", id, err))
			}
		})
	}
	all.Wait()
}

// console keeps what an instance printed last.
type console struct {
	mu      sync.Mutex
	printed []byte
	at      time.Time
}

// consoleKept is how much of it EC2 gives out.
const consoleKept = 64 << 10

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.printed = append(c.printed, p...)
	if over := len(c.printed) - consoleKept; over > 0 {
		c.printed = append([]byte(nil), c.printed[over:]...)
	}
	c.at = time.Now().UTC()
	return len(p), nil
}

func (c *console) read() ([]byte, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.printed...), c.at
}

// console gives the console of an instance, new when it has none.
func (m *machines) console(id string) *console {
	if m.consoles[id] == nil {
		m.consoles[id] = &console{}
	}
	return m.consoles[id]
}

// resume launches the machine of an instance that was running when the sandbox
// ended.
func (m *machines) resume(r *region, i *instance) {
	if !m.service.real {
		return
	}
	one := &run{}
	m.running[i.Id] = one
	name, id := r.name, i.Id
	m.service.spawn(func() { m.relaunch(name, id, one) })
}
