package cloudwatch

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// common is what metric and composite alarms have in common.
type common struct {
	AlarmName               string `wire:",,required"`
	AlarmDescription        string
	ActionsEnabled          *bool
	OKActions               []string
	AlarmActions            []string
	InsufficientDataActions []string
}

// The limits of PutMetricAlarm and PutCompositeAlarm
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html).
const (
	maxName        = 255
	maxDescription = 1024
	maxActions     = 5
	maxDimensions  = 30
	maxRule        = 10240
)

func (in *common) check() error {
	if n := len(in.AlarmName); n > maxName {
		return invalid("The alarm name has %d characters, but may have at most %d", n, maxName)
	}
	if n := len(in.AlarmDescription); n > maxDescription {
		return invalid("The alarm description has %d characters, but may have at most %d", n, maxDescription)
	}
	for name, actions := range map[string][]string{"OKActions": in.OKActions, "AlarmActions": in.AlarmActions, "InsufficientDataActions": in.InsufficientDataActions} {
		if len(actions) > maxActions {
			return invalid("%s has %d actions, but may have at most %d", name, len(actions), maxActions)
		}
		for _, action := range actions {
			if !strings.HasPrefix(action, "arn:aws:") {
				return invalid("Invalid arn syntax: %s", action)
			}
		}
	}
	return nil
}

type putMetricAlarmInput struct {
	common
	MetricName, Namespace string
	Statistic             string
	Dimensions            []dimension
	Period                *int
	EvaluationPeriods     *int
	DatapointsToAlarm     *int
	Threshold             *float64
	ComparisonOperator    string
	TreatMissingData      string
}

var (
	statistics = []string{"SampleCount", "Average", "Sum", "Minimum", "Maximum"}
	operators  = []string{"GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"}
	treatments = []string{"", "breaching", "notBreaching", "ignore", "missing"}
)

// putMetricAlarm makes an alarm on one metric with a static threshold. Math
// expressions, percentiles and anomaly detection are not known.
func (s *Service) putMetricAlarm(_ context.Context, c *api.Call, in *putMetricAlarmInput) (*succeeded, error) {
	c.On(arnOf(c, in.AlarmName))
	if err := in.check(); err != nil {
		return nil, err
	}
	m, err := in.metric()
	if err != nil {
		return nil, err
	}
	s.put(c, &in.common, m, "", insufficientData, "Unchecked: Initial alarm creation")
	return &succeeded{}, nil
}

// longestEvaluation is how long an alarm may look back: a day, and with periods
// of an hour or more a week.
func longestEvaluation(period int) int {
	if period >= int(time.Hour/time.Second) {
		return int(7 * 24 * time.Hour / time.Second)
	}
	return int(24 * time.Hour / time.Second)
}

func (in *putMetricAlarmInput) metric() (*metric, error) {
	switch {
	case in.MetricName == "" || in.Namespace == "":
		return nil, invalid("The sandbox's metric alarms need a MetricName and a Namespace")
	case strings.HasPrefix(in.Namespace, ":") || len(in.MetricName) > maxName || len(in.Namespace) > maxName:
		return nil, invalid("MetricName and Namespace may have at most %d characters, and a Namespace must not begin with a colon", maxName)
	case !slices.Contains(statistics, in.Statistic):
		return nil, invalid("Statistic is '%s', but must be one of %s", in.Statistic, strings.Join(statistics, ", "))
	case len(in.Dimensions) > maxDimensions:
		return nil, invalid("There are %d Dimensions, but there may be at most %d", len(in.Dimensions), maxDimensions)
	case in.Period == nil || !slices.Contains([]int{10, 20, 30}, *in.Period) && (*in.Period < 60 || *in.Period%60 != 0):
		return nil, invalid("Period must be 10, 20, 30 or a multiple of 60")
	case in.EvaluationPeriods == nil || *in.EvaluationPeriods < 1:
		return nil, invalid("EvaluationPeriods must be at least 1")
	case *in.EvaluationPeriods > longestEvaluation(*in.Period) / *in.Period:
		return nil, invalid("Metrics cannot be checked across more than a day, or a week with periods of an hour or more (EvaluationPeriods * Period must be <= %d).", longestEvaluation(*in.Period))
	case in.DatapointsToAlarm != nil && (*in.DatapointsToAlarm < 1 || *in.DatapointsToAlarm > *in.EvaluationPeriods):
		return nil, invalid("DatapointsToAlarm is %d, but must be between 1 and EvaluationPeriods, which is %d", *in.DatapointsToAlarm, *in.EvaluationPeriods)
	case in.Threshold == nil:
		return nil, invalid("The request must contain the parameter Threshold")
	case !slices.Contains(operators, in.ComparisonOperator):
		return nil, invalid("ComparisonOperator is '%s', but must be one of %s", in.ComparisonOperator, strings.Join(operators, ", "))
	case !slices.Contains(treatments, in.TreatMissingData):
		return nil, invalid("TreatMissingData is '%s', but must be one of %s", in.TreatMissingData, strings.Join(treatments[1:], ", "))
	}
	return &metric{
		Name: in.MetricName, Namespace: in.Namespace, Statistic: in.Statistic, Dimensions: in.Dimensions,
		Period: *in.Period, Periods: *in.EvaluationPeriods, Datapoints: in.DatapointsToAlarm,
		Threshold: *in.Threshold, Operator: in.ComparisonOperator, Missing: in.TreatMissingData,
	}, nil
}

type putCompositeAlarmInput struct {
	common
	AlarmRule string `wire:",,required"`
}

// putCompositeAlarm has to be permitted on all resources.
func (s *Service) putCompositeAlarm(_ context.Context, c *api.Call, in *putCompositeAlarmInput) (*succeeded, error) {
	c.On("*")
	if err := in.check(); err != nil {
		return nil, err
	}
	if n := len(in.AlarmRule); n > maxRule {
		return nil, invalid("AlarmRule has %d characters, but may have at most %d", n, maxRule)
	}
	parsed, err := parseRule(in.AlarmRule)
	if err != nil {
		return nil, invalid("AlarmRule is not valid: %v", err)
	}
	page := s.pages.In(c.Region)
	for _, name := range parsed.alarms {
		if _, exists := page.Alarms[name]; !exists {
			return nil, invalid("Could not save the composite alarm as alarms [%s] in the alarm rule do not exist", name)
		}
	}
	s.put(c, &in.common, nil, in.AlarmRule, insufficientData, "")
	return &succeeded{}, nil
}

// put makes an alarm, or gives another configuration to the one of its name,
// whose state stays.
func (s *Service) put(c *api.Call, in *common, m *metric, rule, state, reason string) {
	page := s.pages.In(c.Region)
	a, exists := page.Alarms[in.AlarmName]
	if !exists || (a.Metric == nil) != (m == nil) {
		a = &alarm{Name: in.AlarmName, ARN: arnOf(c, in.AlarmName), State: state, Reason: reason, Updated: c.Now, Transitioned: c.Now}
		page.Alarms[a.Name] = a
	}
	a.Description, a.Metric, a.Rule, a.Configured = in.AlarmDescription, m, rule, c.Now
	a.ActionsEnabled = in.ActionsEnabled == nil || *in.ActionsEnabled
	a.OKActions, a.AlarmActions, a.InsufficientDataActions = in.OKActions, in.AlarmActions, in.InsufficientDataActions
	s.changed(c.Region, c.Now)
}
