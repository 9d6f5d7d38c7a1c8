package sandbox_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

func TestAFleetIsLaunchedOnceAlsoWithARestartBetween(t *testing.T) {
	o := options(t, nil)
	cfg, end := run(t, o)
	client := ec2.NewFromConfig(cfg)
	in := &ec2.CreateFleetInput{
		Type: types.FleetTypeInstant, ClientToken: aws.String("once"),
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{{LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{
			LaunchTemplateId: template(t, client), Version: aws.String("1"),
		}}},
		TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{TotalTargetCapacity: aws.Int32(2), DefaultTargetCapacityType: types.DefaultTargetCapacityTypeOnDemand},
	}
	first, err := client.CreateFleet(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	end()

	cfg, _ = run(t, o)
	client = ec2.NewFromConfig(cfg)
	again, err := client.CreateFleet(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if *again.FleetId != *first.FleetId {
		t.Errorf("the fleet is %s the second time, and was %s", *again.FleetId, *first.FleetId)
	}
	instances, err := client.DescribeInstances(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, reservation := range instances.Reservations {
		n += len(reservation.Instances)
	}
	if n != 2 {
		t.Errorf("%d instances, want the 2 of the fleet", n)
	}
}

func TestAlarmsGoOnAfterARestart(t *testing.T) {
	o := options(t, nil)
	cfg, end := run(t, o)
	client := cloudwatch.NewFromConfig(cfg)
	set := func(state cwtypes.StateValue) {
		t.Helper()
		if _, err := client.SetAlarmState(t.Context(), &cloudwatch.SetAlarmStateInput{AlarmName: aws.String("errors"), StateValue: state, StateReason: aws.String("a test")}); err != nil {
			t.Fatal(err)
		}
	}
	states := func(want cwtypes.StateValue) {
		t.Helper()
		out, err := client.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{AlarmTypes: []cwtypes.AlarmType{cwtypes.AlarmTypeMetricAlarm, cwtypes.AlarmTypeCompositeAlarm}})
		if err != nil {
			t.Fatal(err)
		}
		if metric, composite := out.MetricAlarms[0].StateValue, out.CompositeAlarms[0].StateValue; metric != want || composite != want {
			t.Errorf("the alarm is %s and the composite one %s, want %s", metric, composite, want)
		}
	}
	if _, err := client.PutMetricAlarm(t.Context(), &cloudwatch.PutMetricAlarmInput{
		AlarmName: aws.String("errors"), MetricName: aws.String("5xx"), Namespace: aws.String("Hello"), Statistic: cwtypes.StatisticSum,
		Period: aws.Int32(60), EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(1), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutCompositeAlarm(t.Context(), &cloudwatch.PutCompositeAlarmInput{AlarmName: aws.String("any"), AlarmRule: aws.String("ALARM(errors)")}); err != nil {
		t.Fatal(err)
	}
	set(cwtypes.StateValueAlarm)
	end()

	cfg, _ = run(t, o)
	client = cloudwatch.NewFromConfig(cfg)
	states(cwtypes.StateValueAlarm)
	set(cwtypes.StateValueOk)
	states(cwtypes.StateValueOk)
}

func TestTagsThatAreSeenLateOutliveTheSandbox(t *testing.T) {
	rule, err := fault.Parse("ec2:CreateTags,kind=late,for=1h")
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, nil)
	late := o
	late.Faults = []fault.Rule{rule}
	cfg, end := run(t, late)
	client := ec2.NewFromConfig(cfg)
	id := template(t, client)
	if _, err := client.CreateTags(t.Context(), &ec2.CreateTagsInput{
		Resources: []string{*id}, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("hello")}},
	}); err != nil {
		t.Fatal(err)
	}
	tags := func() []types.TagDescription {
		t.Helper()
		out, err := client.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{*id}}}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Tags
	}
	if now := tags(); len(now) > 0 {
		t.Errorf("tags that are to be seen an hour later: %v", now)
	}
	end()

	cfg, _ = run(t, o)
	client = ec2.NewFromConfig(cfg)
	if now := tags(); len(now) != 1 {
		t.Errorf("after a restart there are the tags %v, want Name", now)
	}
}
