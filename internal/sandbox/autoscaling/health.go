package autoscaling

import (
	"maps"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
)

// Newest lists the instances of a group that are not terminating, from the one
// that was launched last. The books must be held.
func (s *Service) Newest(regionName, name string) ([]string, error) {
	g, err := s.in(regionName).group(name)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range slices.SortedFunc(maps.Values(g.Members), func(a, b *group.Member) int {
		return b.Launched.Compare(a.Launched)
	}) {
		if m.Lifecycle != group.Terminating {
			ids = append(ids, m.ID)
		}
	}
	return ids, nil
}

// SetHealth tells a group how instances of it are, as SetInstanceHealth does
// without regard to the grace period. The books must be held.
func (s *Service) SetHealth(regionName, name string, ids []string, healthy bool) error {
	r := s.in(regionName)
	g, err := r.group(name)
	if err != nil {
		return err
	}
	for _, id := range ids {
		g.SetHealth(id, healthy)
	}
	s.soon(r, g)
	return nil
}
