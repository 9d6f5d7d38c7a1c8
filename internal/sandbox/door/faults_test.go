package door_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/calls"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type none struct{}

// counted is a service whose one operation counts how often it was carried out.
type counted struct {
	name     string
	protocol wire.Protocol
	done     atomic.Int32
	then     func() // may be nil
}

func (s *counted) api(operation string) *api.Service {
	r := api.NewService(s.name, s.protocol)
	api.Register(r, operation, func(context.Context, *api.Call, *none) (*none, error) {
		s.done.Add(1)
		if s.then != nil {
			s.then()
		}
		return &none{}, nil
	})
	return r
}

// faulty serves one operation under a rule, and gives its clients'
// configuration and the log.
func faulty(t *testing.T, s *counted, operation, rule string) (aws.Config, lines) {
	t.Helper()
	parsed, err := fault.Parse(rule)
	if err != nil {
		t.Fatal(err)
	}
	faults := fault.New(1, parsed)
	log := make(lines, 10)
	server := doortest.ServerOf(t, door.Config{
		Books: doortest.Books(t), Clock: doortest.Clock(t), Log: calls.New(log), Faults: faults, Services: []*api.Service{s.api(operation)},
	})
	t.Cleanup(faults.Stop) // before the server closes, which waits for stalled calls
	return doortest.Config(server), log
}

func describeRegions() *counted { return &counted{name: "ec2", protocol: wire.EC2()} }

func TestServicesFailInTheirOwnWay(t *testing.T) {
	query := wire.Query("http://example.com/")
	for _, test := range []struct {
		service   *counted
		operation string
		call      func(context.Context, aws.Config) error
		codes     map[string]string // by kind
	}{
		{describeRegions(), "DescribeRegions", func(ctx context.Context, cfg aws.Config) error {
			_, err := ec2.NewFromConfig(cfg).DescribeRegions(ctx, nil)
			return err
		}, map[string]string{"throttle": "RequestLimitExceeded", "error": "InternalError", "unavailable": "ServiceUnavailable"}},
		{&counted{name: "ebs", protocol: wire.RESTJSON(map[string]string{"ListSnapshotBlocks": "GET /snapshots/{SnapshotId}/blocks"})}, "ListSnapshotBlocks", func(ctx context.Context, cfg aws.Config) error {
			_, err := ebs.NewFromConfig(cfg).ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String("snap-1")})
			return err
		}, map[string]string{"throttle": "RequestThrottledException", "error": "InternalServerException", "unavailable": "ServiceUnavailable"}},
		{&counted{name: "ssm", protocol: wire.JSON("AmazonSSM.")}, "DescribeParameters", func(ctx context.Context, cfg aws.Config) error {
			_, err := ssm.NewFromConfig(cfg).DescribeParameters(ctx, nil)
			return err
		}, map[string]string{"throttle": "ThrottlingException", "error": "InternalServerError", "unavailable": "ServiceUnavailable"}},
		{&counted{name: "ec2-instance-connect", protocol: wire.JSON("AWSEC2InstanceConnectService")}, "SendSSHPublicKey", func(ctx context.Context, cfg aws.Config) error {
			_, err := ec2instanceconnect.NewFromConfig(cfg).SendSSHPublicKey(ctx, &ec2instanceconnect.SendSSHPublicKeyInput{
				InstanceId: aws.String("i-1"), InstanceOSUser: aws.String("root"), SSHPublicKey: aws.String("none"),
			})
			return err
		}, map[string]string{"throttle": "ThrottlingException", "error": "ServiceException", "unavailable": "ServiceUnavailable"}},
		{&counted{name: "autoscaling", protocol: query}, "DescribeAutoScalingGroups", func(ctx context.Context, cfg aws.Config) error {
			_, err := autoscaling.NewFromConfig(cfg).DescribeAutoScalingGroups(ctx, nil)
			return err
		}, map[string]string{"throttle": "Throttling", "error": "InternalFailure", "unavailable": "ServiceUnavailable"}},
		{&counted{name: "elasticloadbalancing", protocol: query}, "DescribeLoadBalancers", func(ctx context.Context, cfg aws.Config) error {
			_, err := elasticloadbalancingv2.NewFromConfig(cfg).DescribeLoadBalancers(ctx, nil)
			return err
		}, map[string]string{"throttle": "Throttling", "error": "InternalFailure", "unavailable": "ServiceUnavailable"}},
	} {
		for kind, code := range test.codes {
			t.Run(test.service.name+" "+kind, func(t *testing.T) {
				cfg, _ := faulty(t, test.service, test.operation, "*,kind="+kind)
				err := test.call(t.Context(), cfg)
				if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != code {
					t.Errorf("the client got %v, want %s", err, code)
				}
				if test.service.done.Load() != 0 {
					t.Error("the operation was carried out")
				}
				standard := retry.NewStandard()
				if !standard.IsErrorRetryable(err) {
					t.Errorf("clients do not retry %v", err)
				}
				throttles := retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}
				if is := throttles.IsErrorThrottle(err) == aws.TrueTernary; is != (kind == "throttle") {
					t.Errorf("clients take %v for throttling: %t", err, is)
				}
			})
		}
	}
}

func TestAnAnswerIsLostAfterTheOperation(t *testing.T) {
	for _, rule := range []string{
		"*,kind=error,when=after,nth=1", "*,kind=unavailable,when=after,nth=1", "*,kind=reset,when=after,nth=1", "*,kind=reset,when=midway,nth=1",
	} {
		t.Run(rule, func(t *testing.T) {
			service := describeRegions()
			cfg, log := faulty(t, service, "DescribeRegions", rule)
			cfg.RetryMaxAttempts = 2
			if _, err := ec2.NewFromConfig(cfg).DescribeRegions(t.Context(), nil); err != nil {
				t.Errorf("clients do not try again: %v", err)
			}
			if done := service.done.Load(); done != 2 {
				t.Errorf("carried out %d times, want twice", done)
			}
			if first, second := <-log, <-log; first.Fault != rule || second.Fault != "" {
				t.Errorf("the log has %+v and %+v, want the fault %s in the first line", first, second, rule)
			}
		})
	}
}

// lines is a call log.
type lines chan calls.Line

func (l lines) Write(text []byte) (int, error) {
	var line calls.Line
	if err := json.Unmarshal(text, &line); err != nil {
		return 0, err
	}
	l <- line
	return len(text), nil
}

func TestAConnectionIsReset(t *testing.T) {
	for when, carriedOut := range map[string]int32{"before": 0, "after": 1, "midway": 1} {
		t.Run(when, func(t *testing.T) {
			service := describeRegions()
			cfg, log := faulty(t, service, "DescribeRegions", "*,kind=reset,when="+when)
			_, err := ec2.NewFromConfig(cfg).DescribeRegions(t.Context(), nil)
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client got %v, want a reset", err)
			}
			if done := service.done.Load(); done != carriedOut {
				t.Errorf("carried out %d times, want %d", done, carriedOut)
			}
			if line, want := <-log, int(carriedOut)*http.StatusOK; line.Status != want {
				t.Errorf("the log has %+v, want the status %d", line, want)
			}
		})
	}
}

func TestAStallEndsByTheClientsTimeout(t *testing.T) {
	for when, carriedOut := range map[string]int32{"before": 0, "after": 1, "midway": 1} {
		t.Run(when, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			service := describeRegions()
			patience := func() { time.AfterFunc(20*time.Millisecond, leave) }
			if carriedOut == 0 {
				patience()
			} else {
				service.then = patience
			}
			cfg, _ := faulty(t, service, "DescribeRegions", "*,kind=stall,when="+when)
			_, err := ec2.NewFromConfig(cfg).DescribeRegions(ctx, nil)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v, want to leave by itself", err)
			}
			if done := service.done.Load(); done != carriedOut {
				t.Errorf("carried out %d times, want %d", done, carriedOut)
			}
		})
	}
}

func TestAStallMayPass(t *testing.T) {
	for _, when := range []string{"before", "after", "midway"} {
		t.Run(when, func(t *testing.T) {
			service := describeRegions()
			cfg, _ := faulty(t, service, "DescribeRegions", "*,kind=stall,for=1ms,when="+when)
			if _, err := ec2.NewFromConfig(cfg).DescribeRegions(t.Context(), nil); err != nil {
				t.Errorf("%v, want an answer after the stall", err)
			}
		})
	}
}

func TestAStalledRequestKeepsItsBody(t *testing.T) {
	received := 0
	r := api.NewService("ebs", wire.RESTJSON(map[string]string{"PutSnapshotBlock": "PUT /snapshots/{SnapshotId}/blocks/{BlockIndex}"}))
	type block struct {
		Snapshot string    `path:"SnapshotId"`
		Index    int       `path:"BlockIndex"`
		Length   int       `header:"x-amz-Data-Length"`
		Checksum string    `header:"x-amz-Checksum"`
		Kind     string    `header:"x-amz-Checksum-Algorithm"`
		Data     io.Reader `body:"raw"`
	}
	api.Register(r, "PutSnapshotBlock", func(_ context.Context, c *api.Call, in *block) (*none, error) {
		c.On("*")
		var b bytes.Buffer
		_, err := b.ReadFrom(in.Data)
		received = b.Len()
		return &none{}, err
	})
	faults := fault.New(1, fault.Rule{Operations: "*", Kind: fault.Stall, When: fault.Before, Rate: 1, For: time.Millisecond})
	cfg := doortest.Config(doortest.ServerOf(t, door.Config{Books: doortest.Books(t), Clock: doortest.Clock(t), Faults: faults, Services: []*api.Service{r}}))
	_, err := ebs.NewFromConfig(cfg).PutSnapshotBlock(t.Context(), &ebs.PutSnapshotBlockInput{
		SnapshotId: aws.String("snap-1"), BlockIndex: aws.Int32(0), BlockData: strings.NewReader("data"), DataLength: aws.Int32(4),
		Checksum: aws.String("x"), ChecksumAlgorithm: "SHA256",
	})
	if err != nil || received != 4 {
		t.Errorf("%v, %d bytes arrived, want 4", err, received)
	}
}

// TestWhatIsCarriedOutIsToldOf needs no more than that it is: not that the client
// hears of it.
func TestWhatIsCarriedOutIsToldOf(t *testing.T) {
	for rule, want := range map[string]int32{
		"ec2:Nothing,kind=error":   1,
		"*,kind=reset":             0,
		"*,kind=throttle":          0,
		"*,kind=reset,when=after":  1,
		"*,kind=error,when=after":  1,
		"*,kind=reset,when=midway": 1,
	} {
		t.Run(rule, func(t *testing.T) {
			parsed, err := fault.Parse(rule)
			if err != nil {
				t.Fatal(err)
			}
			var told atomic.Int32
			server := doortest.ServerOf(t, door.Config{
				Books: doortest.Books(t), Clock: doortest.Clock(t), Faults: fault.New(1, parsed),
				Called: func(string) { told.Add(1) }, Services: []*api.Service{describeRegions().api("DescribeRegions")},
			})
			_, _ = ec2.NewFromConfig(doortest.Config(server)).DescribeRegions(t.Context(), nil) // what the client hears is tested above
			if told.Load() != want {
				t.Errorf("told %d times, want %d", told.Load(), want)
			}
		})
	}
}
