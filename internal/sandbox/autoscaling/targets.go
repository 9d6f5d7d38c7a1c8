package autoscaling

import (
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

// targets is Elastic Load Balancing as the engine wants it.
type targets struct{ elbv2.Groups }

func (t targets) Health(targetGroup, id string) group.Health {
	return group.Health(t.Groups.Health(targetGroup, id))
}
