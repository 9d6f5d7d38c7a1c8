package cloudwatch_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	cw "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/cloudwatch"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
)

// serve gives a client, which speaks CBOR, and the address for those that don't.
func serve(t *testing.T) (*cw.Client, string) {
	t.Helper()
	books, clock := doortest.Books(t), doortest.Clock(t)
	service, err := cloudwatch.New(books, clock)
	if err != nil {
		t.Fatal(err)
	}
	cfg := doortest.Serve(t, books, clock, service.API())
	return cw.NewFromConfig(cfg), *cfg.BaseEndpoint
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return "no error of AWS's"
}

func metricAlarm(name string) *cw.PutMetricAlarmInput {
	return &cw.PutMetricAlarmInput{
		AlarmName: &name, MetricName: new("HTTPCode_ELB_5XX_Count"), Namespace: new("AWS/ApplicationELB"), Statistic: types.StatisticSum,
		Period: new(int32(60)), EvaluationPeriods: new(int32(2)), Threshold: new(1.5), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold,
	}
}

func put(t *testing.T, client *cw.Client, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := client.PutMetricAlarm(t.Context(), metricAlarm(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func set(t *testing.T, client *cw.Client, name string, to types.StateValue) {
	t.Helper()
	if _, err := client.SetAlarmState(t.Context(), &cw.SetAlarmStateInput{AlarmName: &name, StateValue: to, StateReason: new("a test")}); err != nil {
		t.Fatal(err)
	}
}

func describe(t *testing.T, client *cw.Client, in *cw.DescribeAlarmsInput) *cw.DescribeAlarmsOutput {
	t.Helper()
	out, err := client.DescribeAlarms(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAMetricAlarmKeepsTheStateThatItIsGiven(t *testing.T) {
	client, _ := serve(t)
	put(t, client, "errors")
	a := describe(t, client, nil).MetricAlarms[0]
	if a.StateValue != types.StateValueInsufficientData || *a.Threshold != 1.5 || !*a.ActionsEnabled || *a.AlarmArn != "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:errors" {
		t.Errorf("a new alarm = %+v", a)
	}
	set(t, client, "errors", types.StateValueAlarm)
	put(t, client, "errors")
	a = describe(t, client, &cw.DescribeAlarmsInput{AlarmNames: []string{"errors"}}).MetricAlarms[0]
	if a.StateValue != types.StateValueAlarm || *a.StateReason != "a test" || a.StateTransitionedTimestamp == nil {
		t.Errorf("put again = %+v, want the state kept", a)
	}
	if _, err := client.DeleteAlarms(t.Context(), &cw.DeleteAlarmsInput{AlarmNames: []string{"errors", "none"}}); code(err) != "ResourceNotFound" {
		t.Errorf("deleting one that is not there gave %v", err)
	}
	if left := describe(t, client, nil).MetricAlarms; len(left) != 0 {
		t.Errorf("%d alarms left, want the one that is there deleted", len(left))
	}
	_, err := client.SetAlarmState(t.Context(), &cw.SetAlarmStateInput{AlarmName: new("errors"), StateValue: types.StateValueOk, StateReason: new("")})
	if _, ok := errors.AsType[*types.ResourceNotFound](err); !ok {
		t.Errorf("the state of one that is not there gave %v", err)
	}
}

func TestDescribeAlarms(t *testing.T) {
	client, _ := serve(t)
	for i := range 7 {
		put(t, client, fmt.Sprintf("blue-%d", i))
	}
	put(t, client, "green")
	set(t, client, "blue-3", types.StateValueOk)
	in := metricAlarm("mails")
	in.AlarmActions = []string{"arn:aws:sns:eu-west-1:123456789012:mails"}
	if _, err := client.PutMetricAlarm(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutCompositeAlarm(t.Context(), &cw.PutCompositeAlarmInput{AlarmName: new("all"), AlarmRule: new(`ALARM(green) OR ALARM("blue-1")`)}); err != nil {
		t.Fatal(err)
	}
	composite := []types.AlarmType{types.AlarmTypeCompositeAlarm}
	for _, tc := range []struct {
		name string
		in   cw.DescribeAlarmsInput
		want string
	}{
		{"metric alarms alone", cw.DescribeAlarmsInput{}, "blue-0 blue-1 blue-2 blue-3 blue-4 blue-5 blue-6 green mails"},
		{"names", cw.DescribeAlarmsInput{AlarmNames: []string{"green", "none", "all"}}, "green"},
		{"prefix", cw.DescribeAlarmsInput{AlarmNamePrefix: new("g")}, "green"},
		{"state", cw.DescribeAlarmsInput{StateValue: types.StateValueOk}, "blue-3"},
		{"action", cw.DescribeAlarmsInput{ActionPrefix: new("arn:aws:sns:")}, "mails"},
		{"composite alarms", cw.DescribeAlarmsInput{AlarmTypes: composite}, "all"},
		{"children", cw.DescribeAlarmsInput{ChildrenOfAlarmName: new("all")}, "blue-1 green"},
		{"parents", cw.DescribeAlarmsInput{ParentsOfAlarmName: new("green")}, "all"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.in.MaxRecords = new(int32(2))
			var names []string
			for pages := cw.NewDescribeAlarmsPaginator(client, &tc.in); pages.HasMorePages(); {
				page, err := pages.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if n := len(page.MetricAlarms) + len(page.CompositeAlarms); n > 2 {
					t.Errorf("a page has %d alarms, want at most 2", n)
				}
				for _, a := range page.MetricAlarms {
					names = append(names, *a.AlarmName)
				}
				for _, a := range page.CompositeAlarms {
					names = append(names, *a.AlarmName)
				}
			}
			if got := strings.Join(names, " "); got != tc.want {
				t.Errorf("alarms = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestACompositeAlarmFollowsItsRule(t *testing.T) {
	for _, tc := range []struct {
		rule string
		one  types.StateValue
		two  types.StateValue
		want types.StateValue
	}{
		{"TRUE", "OK", "OK", "ALARM"},
		{"NOT TRUE", "OK", "OK", "OK"},
		{"ALARM(one)", "ALARM", "OK", "ALARM"},
		{`ALARM( "one" ) AND ALARM("two")`, "ALARM", "OK", "OK"},
		{"ALARM(one) OR ALARM(two)", "OK", "ALARM", "ALARM"},
		{"OK(one) OR FALSE AND FALSE", "OK", "OK", "ALARM"},
		{"(OK(one) OR FALSE) AND FALSE", "OK", "OK", "OK"},
		{"NOT (ALARM(one) OR INSUFFICIENT_DATA(two))", "OK", "INSUFFICIENT_DATA", "OK"},
		{"ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:two)", "OK", "ALARM", "ALARM"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			client, _ := serve(t)
			put(t, client, "one", "two")
			if _, err := client.PutCompositeAlarm(t.Context(), &cw.PutCompositeAlarmInput{AlarmName: new("both"), AlarmRule: &tc.rule}); err != nil {
				t.Fatal(err)
			}
			set(t, client, "one", tc.one)
			set(t, client, "two", tc.two)
			if got := describe(t, client, &cw.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}}).CompositeAlarms[0]; got.StateValue != tc.want {
				t.Errorf("state = %s, want %s", got.StateValue, tc.want)
			}
		})
	}
}

func TestAlarmsThatAreRefused(t *testing.T) {
	client, _ := serve(t)
	put(t, client, "child")
	if _, err := client.PutCompositeAlarm(t.Context(), &cw.PutCompositeAlarmInput{AlarmName: new("parent"), AlarmRule: new("ALARM(child)")}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*cw.PutMetricAlarmInput){
		"a statistic that is none":  func(in *cw.PutMetricAlarmInput) { in.Statistic = "Mean" },
		"a period of 61 s":          func(in *cw.PutMetricAlarmInput) { in.Period = new(int32(61)) },
		"more than a day":           func(in *cw.PutMetricAlarmInput) { in.EvaluationPeriods = new(int32(1441)) },
		"more points than periods":  func(in *cw.PutMetricAlarmInput) { in.DatapointsToAlarm = new(int32(3)) },
		"no threshold":              func(in *cw.PutMetricAlarmInput) { in.Threshold = nil },
		"an operator of bands":      func(in *cw.PutMetricAlarmInput) { in.ComparisonOperator = "LessThanLowerThreshold" },
		"a treatment that is none":  func(in *cw.PutMetricAlarmInput) { in.TreatMissingData = new("forget") },
		"a percentile, not known":   func(in *cw.PutMetricAlarmInput) { in.ExtendedStatistic = new("p99") },
		"an action that is no ARN":  func(in *cw.PutMetricAlarmInput) { in.AlarmActions = []string{"mail"} },
		"a name of 256 characters":  func(in *cw.PutMetricAlarmInput) { in.AlarmName = new(strings.Repeat("x", 256)) },
		"a namespace with a colon":  func(in *cw.PutMetricAlarmInput) { in.Namespace = new(":x") },
		"more than five actions":    func(in *cw.PutMetricAlarmInput) { in.OKActions = slices.Repeat([]string{"arn:aws:sns:a"}, 6) },
		"a week of periods of 60 s": func(in *cw.PutMetricAlarmInput) { in.EvaluationPeriods = new(int32(10080)) },
	} {
		in := metricAlarm("wrong")
		change(in)
		if _, err := client.PutMetricAlarm(t.Context(), in); code(err) != "ValidationError" {
			t.Errorf("%s: %v, want a ValidationError", name, err)
		}
	}
	for _, rule := range []string{"", "ALARM(none)", "ALARM(", "ALARM(child) AND", "ALARM(child))", "child", "ALARM()", "ALARM(self)", "AT_LEAST(1, ALARM, (child))", strings.Repeat("NOT ", 200) + "TRUE"} {
		if _, err := client.PutCompositeAlarm(t.Context(), &cw.PutCompositeAlarmInput{AlarmName: new("self"), AlarmRule: &rule}); code(err) != "ValidationError" {
			t.Errorf("rule %.40q: %v, want a ValidationError", rule, err)
		}
	}
	ctx := t.Context()
	_, state := client.SetAlarmState(ctx, &cw.SetAlarmStateInput{AlarmName: new("child"), StateValue: "LOUD", StateReason: new("")})
	_, data := client.SetAlarmState(ctx, &cw.SetAlarmStateInput{AlarmName: new("child"), StateValue: "OK", StateReason: new(""), StateReasonData: new("{")})
	_, both := client.DescribeAlarms(ctx, &cw.DescribeAlarmsInput{AlarmNames: []string{"a"}, AlarmNamePrefix: new("a")})
	_, relatives := client.DescribeAlarms(ctx, &cw.DescribeAlarmsInput{ChildrenOfAlarmName: new("parent"), StateValue: "OK"})
	_, token := client.DescribeAlarms(ctx, &cw.DescribeAlarmsInput{NextToken: new("?")})
	_, child := client.DeleteAlarms(ctx, &cw.DeleteAlarmsInput{AlarmNames: []string{"child"}})
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"a state that is none":      {state, "ValidationError"},
		"reason data that is none":  {data, "InvalidFormat"},
		"names and a prefix":        {both, "InvalidParameterCombination"},
		"children and a state":      {relatives, "InvalidParameterCombination"},
		"a token that is none":      {token, "InvalidNextToken"},
		"deleting what is followed": {child, "ValidationError"},
	} {
		if code(tc.err) != tc.want {
			t.Errorf("%s: %v, want %s", name, tc.err, tc.want)
		}
	}
}

func TestAlarmsInACircleCanBeTakenApart(t *testing.T) {
	client, _ := serve(t)
	rule := func(name, rule string) {
		t.Helper()
		if _, err := client.PutCompositeAlarm(t.Context(), &cw.PutCompositeAlarmInput{AlarmName: &name, AlarmRule: &rule}); err != nil {
			t.Fatal(err)
		}
	}
	rule("a", "TRUE")
	rule("b", "ALARM(a)")
	rule("a", "NOT ALARM(b)")
	if _, err := client.DeleteAlarms(t.Context(), &cw.DeleteAlarmsInput{AlarmNames: []string{"a"}}); code(err) != "ValidationError" {
		t.Errorf("deleting one of a circle gave %v", err)
	}
	rule("a", "FALSE")
	for _, name := range []string{"b", "a"} {
		if _, err := client.DeleteAlarms(t.Context(), &cw.DeleteAlarmsInput{AlarmNames: []string{name}}); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
}

// Recent releases of boto3 speak JSON.
func TestTheJSONProtocol(t *testing.T) {
	client, address := serve(t)
	put(t, client, "errors")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(`{"AlarmNames": ["errors"]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801.DescribeAlarms")
	if got := send(t, request); !strings.Contains(got, `"MetricAlarms":[{"AlarmName":"errors"`) {
		t.Errorf("DescribeAlarms = %s", got)
	}
}

// send signs a request and gives the answer's body.
func send(t *testing.T, request *http.Request) string {
	t.Helper()
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIATEST/20260301/eu-west-1/monitoring/aws4_request, SignedHeaders=host, Signature=none")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Debian's AWS CLI speaks the query protocol.
func TestTheQueryProtocol(t *testing.T) {
	client, address := serve(t)
	put(t, client, "errors")
	ask := func(form string) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		return send(t, request)
	}
	if got := ask("Action=SetAlarmState&Version=2010-08-01&AlarmName=errors&StateValue=OK&StateReason=t"); !strings.Contains(got, "<SetAlarmStateResponse") {
		t.Errorf("SetAlarmState = %s", got)
	}
	if got := ask("Action=DescribeAlarms&Version=2010-08-01&AlarmNames.member.1=errors"); !strings.Contains(got, "<MetricAlarms><member><AlarmName>errors</AlarmName>") || !strings.Contains(got, "<StateValue>OK</StateValue>") {
		t.Errorf("DescribeAlarms = %s", got)
	}
	if got := ask("Action=DeleteAlarms&Version=2010-08-01&AlarmNames.member.1=none"); !strings.Contains(got, "<Code>ResourceNotFound</Code>") {
		t.Errorf("DeleteAlarms = %s", got)
	}
	if out := describe(t, client, nil); out.MetricAlarms[0].StateValue != types.StateValueOk {
		t.Errorf("state = %s, want OK", out.MetricAlarms[0].StateValue)
	}
	_, err := client.DescribeAlarmHistory(t.Context(), &cw.DescribeAlarmHistoryInput{AlarmName: aws.String("errors")})
	if code(err) != "InvalidAction" {
		t.Errorf("an operation that is not there: %v, want InvalidAction", err)
	}
}
