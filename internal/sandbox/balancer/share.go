package balancer

import "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"

// share deals requests out to target groups by weight, evenly: with weights 3 and 1 every fourth goes
// to the second. (Smooth weighted round robin: each turn every group gains its weight, and the one
// that has most is taken and pays the total.)
type share struct {
	groups []elbv2.Weighted
	credit []int
}

func newShare(groups []elbv2.Weighted) *share {
	return &share{groups: groups, credit: make([]int, len(groups))}
}

// next is the ARN of the next request's target group: "" where no group has a weight.
func (s *share) next() string {
	best, total := -1, 0
	for i, g := range s.groups {
		if g.Weight == 0 {
			continue
		}
		s.credit[i] += g.Weight
		total += g.Weight
		if best < 0 || s.credit[i] > s.credit[best] {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	s.credit[best] -= total
	return s.groups[best].TargetGroup
}
