package ec2

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// allocation spreads the capacity that a fleet asks for over its pools
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-allocation-strategy.html).
// It plans first and runs last, because a fleet that does not reach its minimum
// runs nothing.
type allocation struct {
	region *region
	tags   map[string]tags // onto what is launched
	fleet  string          // its id
	shares []share
	errors []fleetError
}

// share is what is to be run from one pool. Its addresses and its capacity are
// held for it until it is.
type share struct {
	pool    *fleetPool
	plan    *plan
	release func()
}

// permissions notes what the caller must be permitted: what RunInstances needs,
// for each of the pools that could be launched from
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-prerequisites.html).
func (a *allocation) permissions(c *api.Call, pools []*fleetPool, lifecycle string) {
	a.region.tagOnCreate(c, a.tags)
	for _, pool := range pools {
		if p, err := a.region.plan(a.order(pool, lifecycle, 0)); err == nil {
			needs(c, append(a.region.launching(p), a.region.opening(p)...))
		}
	}
}

func (a *allocation) order(pool *fleetPool, lifecycle string, count int) order {
	o := pool.order(lifecycle)
	o.count, o.more = count, a.tags
	o.extra["aws:ec2:fleet-id"] = a.fleet
	return o
}

// fill plans the capacity of one lifecycle, spread over so many pools. Where all
// of it must be of a single type, or in a single zone, the first that has all of
// it is taken, else the one that has most.
func (a *allocation) fill(lifecycle string, target, spread int, options fleetOptions, pools []*fleetPool) {
	if target == 0 {
		return
	}
	var best []share
	most := 0
	for _, alike := range apart(options, preferred(lifecycle, options, pools)) {
		shares := a.attempt(lifecycle, target, spread, alike)
		if count := countOf(shares); count > most {
			best, shares, most = shares, best, count
		}
		releaseAll(shares)
		if most == target {
			break
		}
	}
	if most < orZero(options.MinTargetCapacity) {
		releaseAll(best)
		return
	}
	a.shares = append(a.shares, best...)
}

// attempt plans a capacity in pools, in their order.
func (a *allocation) attempt(lifecycle string, target, spread int, pools []*fleetPool) []share {
	var shares []share
	for n, pool := range pools {
		left := target - countOf(shares)
		if left == 0 {
			break
		}
		if over := min(spread, len(pools)) - n; over > 1 {
			left = (left + over - 1) / over
		}
		planned, err := a.region.plan(a.order(pool, lifecycle, left))
		if err == nil {
			shares = append(shares, share{pool, planned, a.region.hold(planned)})
			err = planned.short
		}
		if err != nil {
			a.errors = append(a.errors, pool.failed(lifecycle, err))
		}
	}
	return shares
}

// hold keeps the addresses and the capacity of a plan from others.
func (r *region) hold(p *plan) (release func()) {
	back := r.service.shortages.take(r.name, p.pool(), p.count)
	r.service.addresses.count[p.subnet.Cidr] += p.count
	return func() {
		back()
		r.service.addresses.count[p.subnet.Cidr] -= p.count
	}
}

func countOf(shares []share) int {
	count := 0
	for _, s := range shares {
		count += s.plan.count
	}
	return count
}

func releaseAll(shares []share) {
	for _, s := range shares {
		s.release()
	}
}

// run runs what is planned.
func (a *allocation) run() *createFleetOutput {
	out := &createFleetOutput{Errors: a.errors, FleetId: a.fleet}
	for _, s := range a.shares {
		s.release()
		launched := fleetInstances{
			AvailabilityZone: s.plan.subnet.Zone, AvailabilityZoneId: s.plan.subnet.ZoneId, InstanceType: s.plan.kind.Name,
			LaunchTemplateAndOverrides: s.pool.repeated(), Lifecycle: s.plan.data.lifecycle(), SubnetId: s.plan.subnet.Id,
		}
		for _, i := range a.region.run(s.plan) {
			launched.InstanceIds = append(launched.InstanceIds, i.Id)
		}
		out.Instances = append(out.Instances, launched)
	}
	return out
}

// failed tells why a pool has no instances, or too few. That a zone does not
// have a type is an invalid configuration to a fleet (mludvig/aws-ethereum-miner#23).
func (p *fleetPool) failed(lifecycle string, err error) fleetError {
	failed := fleetError{ErrorCode: "InternalError", ErrorMessage: err.Error(), LaunchTemplateAndOverrides: p.repeated(), Lifecycle: lifecycle}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		failed.ErrorCode, failed.ErrorMessage = e.Code, e.Message
	}
	if failed.ErrorCode == Unsupported {
		failed.ErrorCode = "InvalidFleetConfiguration"
	}
	return failed
}

// preferred gives the pools in the order in which a strategy prefers them. Spot
// capacity is equal in all of the sandbox's pools, so that strategies that go by
// capacity keep the order of the request, after the priority where they heed it.
func preferred(lifecycle string, options fleetOptions, pools []*fleetPool) []*fleetPool {
	pools = slices.Clone(pools)
	switch cmp.Or(options.AllocationStrategy, "lowest-price") {
	case "lowest-price", "price-capacity-optimized":
		slices.SortStableFunc(pools, func(a, b *fleetPool) int { return cmp.Compare(a.price(lifecycle), b.price(lifecycle)) })
	case "prioritized", "capacity-optimized-prioritized":
		slices.SortStableFunc(pools, func(a, b *fleetPool) int { return cmp.Compare(a.priority(), b.priority()) })
	}
	return pools
}

func (p *fleetPool) price(lifecycle string) float64 {
	switch {
	case p.kind == nil:
		return math.Inf(1)
	case lifecycle == spotLifecycle:
		return p.kind.spotPrice()
	}
	return p.kind.price()
}

// priority is the lowest where none is given.
func (p *fleetPool) priority() float64 {
	if p.override.Priority == nil {
		return math.Inf(1)
	}
	return *p.override.Priority
}

// apart divides pools into those that may be used together: all, or those of one
// type, in one zone, or of one type in one zone.
func apart(options fleetOptions, pools []*fleetPool) [][]*fleetPool {
	if !options.SingleInstanceType && !options.SingleAvailabilityZone {
		return [][]*fleetPool{pools}
	}
	var keys [][2]string
	alike := map[[2]string][]*fleetPool{}
	for _, p := range pools {
		var key [2]string
		if options.SingleInstanceType {
			key[0] = cmp.Or(p.override.InstanceType, p.version.Data.InstanceType)
		}
		if options.SingleAvailabilityZone {
			key[1] = p.override.AvailabilityZone + p.override.AvailabilityZoneId + p.override.SubnetId
		}
		if alike[key] == nil {
			keys = append(keys, key)
		}
		alike[key] = append(alike[key], p)
	}
	var all [][]*fleetPool
	for _, key := range keys {
		all = append(all, alike[key])
	}
	return all
}
