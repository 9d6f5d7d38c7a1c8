package cloudwatch

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type setAlarmStateInput struct {
	AlarmName       string  `wire:",,required"`
	StateValue      string  `wire:",,required"`
	StateReason     *string `wire:",,required"`
	StateReasonData string
}

// The limits of SetAlarmState
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_SetAlarmState.html).
const (
	maxReason     = 1023
	maxReasonData = 4000
)

func (s *Service) setAlarmState(_ context.Context, c *api.Call, in *setAlarmStateInput) (*succeeded, error) {
	c.On(arnOf(c, in.AlarmName))
	if err := checkState(in.StateValue); err != nil {
		return nil, err
	}
	if len(*in.StateReason) > maxReason || len(in.StateReasonData) > maxReasonData {
		return nil, invalid("StateReason may have at most %d characters, and StateReasonData %d", maxReason, maxReasonData)
	}
	if in.StateReasonData != "" && !json.Valid([]byte(in.StateReasonData)) {
		return nil, wire.Errorf("InvalidFormat", "StateReasonData is not JSON")
	}
	a, exists := s.pages.In(c.Region).Alarms[in.AlarmName]
	if !exists {
		return nil, notFound(in.AlarmName)
	}
	a.to(in.StateValue, *in.StateReason, in.StateReasonData, c.Now)
	s.changed(c.Region, c.Now)
	return &succeeded{}, nil
}

// SetState puts an alarm into a state, as SetAlarmState does. The books must be
// held.
func (s *Service) SetState(region, name, value, reason string) error {
	if err := checkState(value); err != nil {
		return err
	}
	a, exists := s.pages.In(region).Alarms[name]
	if !exists {
		return notFound(name)
	}
	now := s.clock.Now()
	a.to(value, reason, "", now)
	s.changed(region, now)
	return nil
}

func checkState(value string) error {
	switch value {
	case ok, ringing, insufficientData:
		return nil
	}
	return invalid("StateValue is '%s', but must be %s, %s or %s", value, ok, ringing, insufficientData)
}

type deleteAlarmsInput struct {
	AlarmNames []string `wire:",,required"`
}

const maxDeleted = 100

// deleteAlarms deletes the alarms that there are, also when others that are named
// are none.
func (s *Service) deleteAlarms(_ context.Context, c *api.Call, in *deleteAlarmsInput) (*succeeded, error) {
	if len(in.AlarmNames) > maxDeleted {
		return nil, invalid("At most %d alarms can be deleted at once, and %d are named", maxDeleted, len(in.AlarmNames))
	}
	page := s.pages.In(c.Region)
	composite := 0
	for _, name := range in.AlarmNames {
		c.On(arnOf(c, name))
		if a, exists := page.Alarms[name]; exists && a.Metric == nil {
			composite++
		}
		for _, other := range page.Alarms {
			if slices.Contains(other.children(), name) && !slices.Contains(in.AlarmNames, other.Name) {
				return nil, invalid("The alarm %s cannot be deleted, because the composite alarm %s depends on it", name, other.Name)
			}
		}
	}
	if composite > 1 {
		return nil, invalid("At most one composite alarm can be deleted at once, and %d are named", composite)
	}
	var err error
	for _, name := range in.AlarmNames {
		if _, exists := page.Alarms[name]; !exists {
			err = notFound(name)
		}
		delete(page.Alarms, name)
	}
	s.changed(c.Region, c.Now)
	return &succeeded{}, err
}
