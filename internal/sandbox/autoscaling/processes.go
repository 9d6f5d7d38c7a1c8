package autoscaling

import (
	"context"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
)

// processes are those that can be suspended, which are those that the sandbox
// has. AZRebalance, AlarmNotification and ScheduledActions are none of them.
var processes = []string{
	group.ProcessLaunch,
	group.ProcessTerminate,
	group.ProcessAddToLoadBalancer,
	group.ProcessHealthCheck,
	group.ProcessInstanceRefresh,
	group.ProcessReplaceUnhealthy,
}

type processesInput struct {
	AutoScalingGroupName string   `wire:",,required"`
	ScalingProcesses     []string // all of them when empty
}

func (s *Service) suspendProcesses(_ context.Context, c *api.Call, in *processesInput) (*succeeded, error) {
	return s.eachProcess(c, in, func(g *group.Group, process string) {
		if !slices.Contains(g.Suspended, process) {
			g.Suspended = append(g.Suspended, process)
		}
	})
}

func (s *Service) resumeProcesses(_ context.Context, c *api.Call, in *processesInput) (*succeeded, error) {
	return s.eachProcess(c, in, func(g *group.Group, process string) {
		g.Suspended = slices.DeleteFunc(g.Suspended, func(p string) bool { return p == process })
	})
}

func (s *Service) eachProcess(c *api.Call, in *processesInput, do func(*group.Group, string)) (*succeeded, error) {
	r, g, err := s.find(c, in.AutoScalingGroupName)
	if err != nil {
		return nil, err
	}
	names := in.ScalingProcesses
	if len(names) == 0 {
		names = processes
	}
	for _, name := range names {
		if !slices.Contains(processes, name) {
			return nil, invalid("The sandbox does not know the process %s; it knows %s", name, strings.Join(processes, ", "))
		}
	}
	for _, name := range names {
		do(g, name)
	}
	s.soon(r, g)
	return &succeeded{}, nil
}

type suspendedProcess struct {
	ProcessName      string
	SuspensionReason string
}

func describeSuspended(g *group.Group) []suspendedProcess {
	out := make([]suspendedProcess, len(g.Suspended))
	for i, name := range g.Suspended {
		out[i] = suspendedProcess{name, "User suspended"}
	}
	return out
}
