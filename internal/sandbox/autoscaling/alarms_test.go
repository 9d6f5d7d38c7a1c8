package autoscaling_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	cw "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// alarm makes alarms that are OK.
func (s *scaling) alarm(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		must(s.alarms.PutMetricAlarm(t.Context(), &cw.PutMetricAlarmInput{
			AlarmName: &name, MetricName: new("m"), Namespace: new("n"), Statistic: cwtypes.StatisticSum, Period: new(int32(60)),
			EvaluationPeriods: new(int32(1)), Threshold: new(1.0), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
		}))(t)
		s.setAlarm(t, name, cwtypes.StateValueOk)
	}
}

func (s *scaling) setAlarm(t *testing.T, name string, to cwtypes.StateValue) {
	t.Helper()
	must(s.alarms.SetAlarmState(t.Context(), &cw.SetAlarmStateInput{AlarmName: &name, StateValue: to, StateReason: new("a test")}))(t)
}

func alarms(names ...string) *types.AlarmSpecification {
	return &types.AlarmSpecification{Alarms: names}
}

func TestAnAlarmOfARefresh(t *testing.T) {
	for _, tc := range []struct {
		name     string
		composed bool
		rollback bool
		want     types.InstanceRefreshStatus
	}{
		{"fails it", false, false, types.InstanceRefreshStatusFailed},
		{"rolls it back", false, true, types.InstanceRefreshStatusRollbackSuccessful},
		{"may be composite", true, false, types.InstanceRefreshStatusFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *scaling) {
				s.group(t, 4)
				s.alarm(t, "errors")
				watched := "errors"
				if tc.composed {
					watched = "all"
					must(s.alarms.PutCompositeAlarm(t.Context(), &cw.PutCompositeAlarmInput{AlarmName: &watched, AlarmRule: new("ALARM(errors)")}))(t)
				}
				s.start(t, &types.RefreshPreferences{InstanceWarmup: new(int32(60)), BakeTime: new(int32(600)), AutoRollback: &tc.rollback, AlarmSpecification: alarms(watched)})
				time.Sleep(90 * time.Second)
				if got := s.refresh(t).Preferences.AlarmSpecification; len(got.Alarms) != 1 || got.Alarms[0] != watched {
					t.Errorf("alarms = %v, want %s", got.Alarms, watched)
				}
				s.setAlarm(t, "errors", cwtypes.StateValueAlarm)
				time.Sleep(time.Second)
				if r := s.refresh(t); r.Status == types.InstanceRefreshStatusInProgress {
					t.Errorf("a second after the alarm the refresh is %s", r.Status)
				}
				r := s.ended(t, nothing)
				if r.Status != tc.want || !strings.Contains(*r.StatusReason, "alarm "+watched+" is in the ALARM state") {
					t.Errorf("refresh = %s (%s), want %s for the alarm", r.Status, *r.StatusReason, tc.want)
				}
				if got := *s.describe(t).LaunchTemplate.Version; got != "1" {
					t.Errorf("the group's version is %s, want 1", got)
				}
			})
		})
	}
}

func TestAlarmsThatKeepARefreshFromStarting(t *testing.T) {
	serve(t, func(t *testing.T, s *scaling) {
		s.group(t, 1)
		var many []string
		for i := range 11 {
			many = append(many, fmt.Sprintf("alarm-%d", i))
		}
		s.alarm(t, append(many, "fine", "rings", "dataless")...)
		s.setAlarm(t, "rings", cwtypes.StateValueAlarm)
		s.setAlarm(t, "dataless", cwtypes.StateValueInsufficientData)
		for _, tc := range []struct {
			alarms *types.AlarmSpecification
			want   string
		}{
			{alarms("fine", "rings"), "rings is in the ALARM state"},
			{alarms("fine", "dataless"), "dataless is in the INSUFFICIENT_DATA state"},
			{alarms("none"), "none does not exist"},
			{alarms(many...), "11 alarms"},
			{alarms("fine", "fine"), "given twice"},
		} {
			_, err := s.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{AutoScalingGroupName: new(name), Preferences: &types.RefreshPreferences{AlarmSpecification: tc.alarms}})
			if code(err) != "ValidationError" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v: %v, want a ValidationError with %q", tc.alarms.Alarms, err, tc.want)
			}
		}
		s.start(t, &types.RefreshPreferences{AlarmSpecification: alarms(many[:10]...)})
	})
}
