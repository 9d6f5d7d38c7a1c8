package sts_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	service "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/sts"
)

// serve serves STS with a scale for the time of sessions.
func serve(t *testing.T, scale float64) aws.Config {
	t.Helper()
	c, err := clock.New(clock.Instant, scale)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return doortest.Serve(t, doortest.Books(t), c, service.New(c))
}

func as(cfg aws.Config, c credentials.StaticCredentialsProvider) *sts.Client {
	cfg.Credentials = c
	return sts.NewFromConfig(cfg)
}

func codeOf(err error) string {
	if api := smithy.APIError(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func request(change func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
	in := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/ci/baker"), RoleSessionName: aws.String("bake")}
	change(in)
	return in
}

func TestARoleIsAssumed(t *testing.T) {
	cfg := serve(t, 1)
	out, err := sts.NewFromConfig(cfg).AssumeRole(t.Context(), request(func(in *sts.AssumeRoleInput) {
		in.DurationSeconds, in.ExternalId = aws.Int32(900), aws.String("shared")
	}))
	if err != nil {
		t.Fatal(err)
	}
	made := out.Credentials
	if left := time.Until(*made.Expiration); left > 15*time.Minute || left < 14*time.Minute {
		t.Errorf("the credentials expire in %s, want 15 minutes", left)
	}
	who, err := as(cfg, credentials.NewStaticCredentialsProvider(*made.AccessKeyId, *made.SecretAccessKey, *made.SessionToken)).
		GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:sts::123456789012:assumed-role/baker/bake" {
		t.Errorf("they are of %v (%v)", who, err)
	}
	_, err = as(cfg, credentials.NewStaticCredentialsProvider("ASIAANOTHER", *made.SecretAccessKey, *made.SessionToken)).
		GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if codeOf(err) != "InvalidClientTokenId" {
		t.Errorf("the token with another key gives %v", err)
	}
}

func TestAssumeRoleRefuses(t *testing.T) {
	client := sts.NewFromConfig(serve(t, 1))
	for code, change := range map[string]func(*sts.AssumeRoleInput){
		"AccessDenied":    func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::210987654321:role/baker") },
		"ValidationError": func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(899) },
	} {
		if _, err := client.AssumeRole(t.Context(), request(change)); codeOf(err) != code {
			t.Errorf("got %v, want %s", err, code)
		}
	}
	for name, change := range map[string]func(*sts.AssumeRoleInput){
		"a user":           func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::123456789012:user/me") },
		"a name too short": func(in *sts.AssumeRoleInput) { in.RoleSessionName = aws.String("x") },
		"an external id":   func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("a b") },
	} {
		if _, err := client.AssumeRole(t.Context(), request(change)); codeOf(err) != "ValidationError" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestASessionEnds(t *testing.T) {
	cfg := serve(t, 1e-9) // a quarter of an hour is a microsecond
	out, err := sts.NewFromConfig(cfg).AssumeRole(t.Context(), request(func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(900) }))
	if err != nil {
		t.Fatal(err)
	}
	made := out.Credentials
	time.Sleep(2 * time.Millisecond) // the sandbox's clock shows milliseconds
	_, err = as(cfg, credentials.NewStaticCredentialsProvider(*made.AccessKeyId, *made.SecretAccessKey, *made.SessionToken)).
		GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if codeOf(err) != "ExpiredToken" {
		t.Errorf("got %v, want ExpiredToken", err)
	}
}
