package cloudwatch

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type describeAlarmsInput struct {
	AlarmNames          []string
	AlarmNamePrefix     string
	AlarmTypes          []string // metric alarms alone when there are none
	ChildrenOfAlarmName string
	ParentsOfAlarmName  string
	StateValue          string
	ActionPrefix        string
	MaxRecords          *int
	NextToken           string
}

type describeAlarmsOutput struct {
	MetricAlarms    []metricAlarm
	CompositeAlarms []compositeAlarm
	NextToken       string
}

type alarmOut struct {
	AlarmName                          string
	AlarmArn                           string
	AlarmDescription                   string
	AlarmConfigurationUpdatedTimestamp time.Time
	ActionsEnabled                     bool
	OKActions                          []string
	AlarmActions                       []string
	InsufficientDataActions            []string
	StateValue                         string
	StateReason                        string
	StateReasonData                    string
	StateUpdatedTimestamp              time.Time
	StateTransitionedTimestamp         time.Time
}

type metricAlarm struct {
	alarmOut
	MetricName, Namespace string
	Statistic             string
	Dimensions            []dimension
	Period                int
	EvaluationPeriods     int
	DatapointsToAlarm     *int
	Threshold             float64
	ComparisonOperator    string
	TreatMissingData      string
}

type compositeAlarm struct {
	alarmOut
	AlarmRule string
}

// The kinds of alarms.
const (
	metricKind    = "MetricAlarm"
	compositeKind = "CompositeAlarm"
)

// maxPage is how many names may be given, and how many alarms a page has at most;
// by itself it has half of that.
const maxPage = 100

func (s *Service) describeAlarms(_ context.Context, c *api.Call, in *describeAlarmsInput) (*describeAlarmsOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	page := s.pages.In(c.Region)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(page.Alarms)) {
		if in.asksFor(page, page.Alarms[name]) {
			names = append(names, name)
		}
	}
	names, token, err := in.cut(names)
	if err != nil {
		return nil, err
	}
	out := &describeAlarmsOutput{NextToken: token}
	for _, name := range names {
		a := page.Alarms[name]
		if m := a.Metric; m != nil {
			out.MetricAlarms = append(out.MetricAlarms, metricAlarm{
				alarmOut: a.describe(), MetricName: m.Name, Namespace: m.Namespace, Statistic: m.Statistic,
				Dimensions: append([]dimension{}, m.Dimensions...), Period: m.Period, EvaluationPeriods: m.Periods, DatapointsToAlarm: m.Datapoints,
				Threshold: m.Threshold, ComparisonOperator: m.Operator, TreatMissingData: m.Missing,
			})
			continue
		}
		out.CompositeAlarms = append(out.CompositeAlarms, compositeAlarm{a.describe(), a.Rule})
	}
	return out, nil
}

func (in *describeAlarmsInput) check() error {
	switch {
	case len(in.AlarmNames) > maxPage:
		return invalid("At most %d AlarmNames can be given, and %d are", maxPage, len(in.AlarmNames))
	case len(in.AlarmNames) > 0 && in.AlarmNamePrefix != "":
		return wire.Errorf("InvalidParameterCombination", "AlarmNames and AlarmNamePrefix cannot be given both")
	case in.MaxRecords != nil && (*in.MaxRecords < 1 || *in.MaxRecords > maxPage):
		return invalid("MaxRecords is %d, but must be between 1 and %d", *in.MaxRecords, maxPage)
	}
	for _, kind := range in.AlarmTypes {
		if kind != metricKind && kind != compositeKind {
			return invalid("The sandbox does not know alarms of type %s; it knows %s and %s", kind, metricKind, compositeKind)
		}
	}
	relatives := 0
	for _, name := range []string{in.ChildrenOfAlarmName, in.ParentsOfAlarmName} {
		if name != "" {
			relatives++
		}
	}
	others := len(in.AlarmNames) + len(in.AlarmNamePrefix) + len(in.AlarmTypes) + len(in.StateValue) + len(in.ActionPrefix)
	if relatives > 1 || relatives == 1 && others > 0 {
		return wire.Errorf("InvalidParameterCombination", "ChildrenOfAlarmName and ParentsOfAlarmName can be combined with MaxRecords and NextToken alone")
	}
	if in.StateValue != "" {
		return checkState(in.StateValue)
	}
	return nil
}

func (in *describeAlarmsInput) asksFor(page *page, a *alarm) bool {
	if name := in.ChildrenOfAlarmName; name != "" {
		parent, exists := page.Alarms[name]
		return exists && slices.Contains(parent.children(), a.Name)
	}
	if name := in.ParentsOfAlarmName; name != "" {
		return slices.Contains(a.children(), name)
	}
	kind := metricKind
	if a.Metric == nil {
		kind = compositeKind
	}
	kinds := in.AlarmTypes
	if len(kinds) == 0 {
		kinds = []string{metricKind}
	}
	return slices.Contains(kinds, kind) &&
		(len(in.AlarmNames) == 0 || slices.Contains(in.AlarmNames, a.Name)) &&
		strings.HasPrefix(a.Name, in.AlarmNamePrefix) &&
		(in.StateValue == "" || in.StateValue == a.State) &&
		(in.ActionPrefix == "" || slices.ContainsFunc(slices.Concat(a.OKActions, a.AlarmActions, a.InsufficientDataActions), func(action string) bool {
			return strings.HasPrefix(action, in.ActionPrefix)
		}))
}

// cut gives one page of names and the token of the next.
func (in *describeAlarmsInput) cut(names []string) ([]string, string, error) {
	size := maxPage / 2
	if in.MaxRecords != nil {
		size = *in.MaxRecords
	}
	page, next, ok := paging.Cut(names, in.NextToken, size, func(name string) string { return name })
	if !ok {
		return nil, "", wire.Errorf("InvalidNextToken", "The token '%s' is invalid", in.NextToken)
	}
	return page, next, nil
}

func (a *alarm) describe() alarmOut {
	return alarmOut{
		AlarmName:                          a.Name,
		AlarmArn:                           a.ARN,
		AlarmDescription:                   a.Description,
		AlarmConfigurationUpdatedTimestamp: a.Configured,
		ActionsEnabled:                     a.ActionsEnabled,
		OKActions:                          append([]string{}, a.OKActions...),
		AlarmActions:                       append([]string{}, a.AlarmActions...),
		InsufficientDataActions:            append([]string{}, a.InsufficientDataActions...),
		StateValue:                         a.State,
		StateReason:                        a.Reason,
		StateReasonData:                    a.ReasonData,
		StateUpdatedTimestamp:              a.Updated,
		StateTransitionedTimestamp:         a.Transitioned,
	}
}
