package elbv2

import "slices"

// Groups are the target groups of a region, for Auto Scaling. But for Subscribe
// the books must be held.
type Groups struct {
	service *Service
	region  *region
}

// Groups gives a region's. The books must be held.
func (s *Service) Groups(region string) Groups { return Groups{s, s.in(region)} }

// Exists tells whether there is a target group.
func (g Groups) Exists(targetGroup string) bool {
	_, ok := g.region.TargetGroups[targetGroup]
	return ok
}

// Register adds an instance with the target group's port.
func (g Groups) Register(targetGroup, id string) error {
	tg, err := g.region.targetGroup(targetGroup)
	if err != nil {
		return err
	}
	t, err := g.region.target(id, tg.Port)
	if err != nil {
		return err
	}
	g.service.register(g.region, tg, t)
	return nil
}

// Deregister begins to drain an instance that was registered so. One that is not
// registered is no error.
func (g Groups) Deregister(targetGroup, id string) error {
	tg, err := g.region.targetGroup(targetGroup)
	if err != nil {
		return err
	}
	if t := tg.at(id, tg.Port); t != nil {
		g.service.deregister(g.region, tg, t)
	}
	return nil
}

// Health of an instance in a target group; the zero Health when it is not, or no
// longer, registered there.
func (g Groups) Health(targetGroup, id string) Health {
	tg, ok := g.region.TargetGroups[targetGroup]
	if !ok {
		return Health{}
	}
	t := tg.at(id, tg.Port)
	if t == nil {
		return Health{}
	}
	return g.service.health(g.region, tg, t)
}

// Subscribe calls heard, without the books, with the id of each target whose
// health has changed. Subscribe and cancel need the books.
func (g Groups) Subscribe(heard func(id string)) (cancel func()) {
	g.region.heard = append(g.region.heard, &heard)
	return func() {
		g.region.heard = slices.DeleteFunc(g.region.heard, func(f *func(string)) bool { return f == &heard })
	}
}
