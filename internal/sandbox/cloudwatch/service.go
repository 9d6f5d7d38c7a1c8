// Package cloudwatch is the sandbox's CloudWatch, of which there are alarms:
// those that an instance refresh minds.
//
// There are no metrics here, so a metric alarm does not evaluate anything: it has
// insufficient data when it is made, and is in the state that SetAlarmState gave
// it from then on. (With AWS it soon returns to what its metric says.) Composite
// alarms follow the alarms that their rule names.
package cloudwatch

import (
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Service is CloudWatch.
type Service struct {
	clock *clock.Clock
	pages *state.Ledger[page]
	heard map[string][]func() // by region
}

// page is what a region has of alarms, by name.
type page struct {
	Alarms map[string]*alarm
}

// alarm is a metric alarm or a composite one.
type alarm struct {
	Name, ARN, Description  string
	Metric                  *metric `json:",omitempty"`
	Rule                    string  `json:",omitempty"` // of a composite alarm
	ActionsEnabled          bool
	OKActions               []string `json:",omitempty"`
	AlarmActions            []string `json:",omitempty"`
	InsufficientDataActions []string `json:",omitempty"`

	State, Reason, ReasonData string
	Configured                time.Time // last
	Updated                   time.Time // the state, also when it stayed the same
	Transitioned              time.Time // to the state
}

// metric is what a metric alarm watches.
type metric struct {
	Name, Namespace, Statistic string
	Dimensions                 []dimension `json:",omitempty"`
	Period, Periods            int
	Datapoints                 *int `json:",omitempty"`
	Threshold                  float64
	Operator                   string
	Missing                    string `json:",omitempty"`
}

type dimension struct {
	Name  string `wire:",,required"`
	Value string `wire:",,required"`
}

// The states of an alarm.
const (
	ok               = "OK"
	ringing          = "ALARM"
	insufficientData = "INSUFFICIENT_DATA"
)

// New makes the service.
func New(books *state.Books, clock *clock.Clock) (*Service, error) {
	pages, err := state.Declare(books, "cloudwatch", func(string) *page {
		return &page{Alarms: map[string]*alarm{}}
	})
	if err != nil {
		return nil, fmt.Errorf("open CloudWatch: %w", err)
	}
	return &Service{clock: clock, pages: pages, heard: map[string][]func(){}}, nil
}

// API lists the operations. Credential scopes call the service monitoring.
func (s *Service) API() *api.Service {
	r := api.NewService("cloudwatch", wire.QueryOrNewer("http://monitoring.amazonaws.com/doc/2010-08-01/", "GraniteServiceVersion20100801"))
	r.Scope = "monitoring"
	api.Register(r, "PutMetricAlarm", s.putMetricAlarm)
	api.Register(r, "PutCompositeAlarm", s.putCompositeAlarm)
	api.Register(r, "DescribeAlarms", s.describeAlarms)
	api.Register(r, "SetAlarmState", s.setAlarmState)
	api.Register(r, "DeleteAlarms", s.deleteAlarms)
	return r
}

// Alarms are the alarms of a region, for Auto Scaling. The books must be held.
type Alarms struct {
	service *Service
	region  string
}

// Alarms gives a region's.
func (s *Service) Alarms(region string) Alarms { return Alarms{s, region} }

// State of an alarm in CloudWatch's words; "" when there is none of that name.
func (a Alarms) State(name string) string {
	if found, exists := a.service.pages.In(a.region).Alarms[name]; exists {
		return found.State
	}
	return ""
}

// Subscribe calls heard, without the books, when an alarm of the region has come
// to another state or is gone.
func (a Alarms) Subscribe(heard func()) {
	a.service.heard[a.region] = append(a.service.heard[a.region], heard)
}

// changed brings the composite alarms of a region up to date and tells the
// subscribers.
func (s *Service) changed(region string, now time.Time) {
	s.pages.In(region).evaluate(now)
	for _, heard := range s.heard[region] {
		s.clock.After(0, heard)
	}
}

func arnOf(c *api.Call, name string) string { return c.ARN("alarm:" + name) }

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

func notFound(name string) error {
	return wire.Errorf("ResourceNotFound", "There is no alarm with the name '%s'", name).With(404)
}

// succeeded is the answer of operations that have none but success.
type succeeded struct{}
