package door_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/quota"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/sts"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

func serve(t *testing.T) aws.Config {
	return doortest.Serve(t, doortest.Books(t), doortest.Clock(t), sts.New(doortest.Clock(t)))
}

func TestCallerIdentityNamesTheAccessKey(t *testing.T) {
	out, err := awssts.NewFromConfig(serve(t)).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := aws.ToString(out.Arn), "arn:aws:iam::123456789012:user/AKIATEST"; got != want {
		t.Errorf("Arn %s, want %s", got, want)
	}
}

func TestUnknownOperationSaysSo(t *testing.T) {
	_, err := awssts.NewFromConfig(serve(t)).GetSessionToken(t.Context(), nil)
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != "InvalidAction" {
		t.Errorf("GetSessionToken gave %v, want InvalidAction", err)
	}
}

func TestUnsignedRequestsAreRefused(t *testing.T) {
	cfg := serve(t)
	for name, authorization := range map[string]string{
		"none":              "",
		"another kind":      "Basic YTpi",
		"no scope":          "AWS4-HMAC-SHA256 Credential=AKIA, SignedHeaders=host, Signature=0",
		"a folder upwards":  "AWS4-HMAC-SHA256 Credential=AKIA/20250101/../sts/aws4_request",
		"an unknown region": "AWS4-HMAC-SHA256 Credential=AKIA/20250101/home/sts/aws4_request",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *cfg.BaseEndpoint, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", authorization)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode < 400 || response.StatusCode >= 500 {
				t.Errorf("status %s", response.Status)
			}
		})
	}
}

func TestOtherHostsAreRefused(t *testing.T) {
	cfg := serve(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *cfg.BaseEndpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "example.com"
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20250101/eu-west-1/sts/aws4_request")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("status %s", response.Status)
	}
}

func TestCallsThatComeTooOftenAreThrottled(t *testing.T) {
	slow, err := clock.New(clock.Instant, 1e6) // so that nothing is refilled meanwhile
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Stop)
	service := &counted{name: "ec2", protocol: wire.EC2()}
	client := ec2.NewFromConfig(doortest.Config(doortest.ServerOf(t, door.Config{
		Books: doortest.Books(t), Clock: slow, Rates: quota.New(slow), Services: []*api.Service{service.api("DescribeRegions")},
	})))
	for range 100 {
		if _, err := client.DescribeRegions(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err = client.DescribeRegions(t.Context(), nil)
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "RequestLimitExceeded" {
		t.Errorf("the 101st call gave %v, want RequestLimitExceeded", err)
	}
}
