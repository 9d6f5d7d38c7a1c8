package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/immutable-server/packer-plugin-immutable/version"
)

const (
	// AttemptTimeout bounds one attempt of a call, from dialling to the last
	// byte of the answer. The SDK has no bound of its own, and a connection
	// that stalls would hang a build forever.
	AttemptTimeout = time.Minute

	// connections is how many idle ones are kept to a host: as many as blocks
	// are ever transferred at once. The SDK's default of 10 would have most
	// blocks pay for a new TLS handshake.
	connections = 64

	product         = "packer-plugin-immutable"
	defaultAttempts = 10

	// The first calls of a build show that AWS can't be reached, and that
	// should show soon: they ask for little, and wait less for the answer.
	firstTimeout  = 10 * time.Second // of one attempt
	firstAttempts = 5
	firstPatience = 40 * time.Second // with all attempts
)

// Load resolves the credentials, proves them with one call of sts
// GetCallerIdentity, and gives the configuration from which the clients of the
// services are made. Prepare must have been called.
func (a Access) Load(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, a.options()...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("read the AWS configuration: %w", err)
	}
	cfg.HTTPClient = plainBodies{cfg.HTTPClient}
	if a.AssumeRole.RoleArn != "" {
		cfg.Credentials = aws.NewCredentialsCache(a.AssumeRole.provider(cfg), earlier)
	}
	first, cancel := context.WithTimeoutCause(ctx, firstPatience, errNoAnswer)
	defer cancel()
	if _, err := cfg.Credentials.Retrieve(first); err != nil {
		return aws.Config{}, a.noCredentials(cfg, errors.Join(err, context.Cause(first)))
	}
	if _, err := Account(ctx, cfg); err != nil {
		return aws.Config{}, err
	}
	return cfg, nil
}

// Account is the id of the account that the credentials belong to. It is the
// first call of a build, so that it is not tried again for long: a wrong
// endpoint or network should show soon.
func Account(ctx context.Context, cfg aws.Config) (string, error) {
	client := sts.NewFromConfig(cfg, func(o *sts.Options) { o.RetryMaxAttempts = firstAttempts }, quick)
	first, cancel := context.WithTimeoutCause(ctx, firstPatience, errNoAnswer)
	defer cancel()
	who, err := client.GetCallerIdentity(first, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("ask AWS whose the credentials are (sts:GetCallerIdentity): %w", reachable(cfg, err))
	}
	return aws.ToString(who.Account), nil
}

var errNoAnswer = fmt.Errorf("there was no answer within %s", firstPatience)

// quick gives the attempts of a client less time.
func quick(o *sts.Options) { o.HTTPClient = plainBodies{client().WithTimeout(firstTimeout)} }

// reachable adds to the error of a first call what is to be done about it.
func reachable(cfg aws.Config, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if Code(err) != "" {
		return fmt.Errorf("%w; AWS in region %s was reached: renew or correct the credentials", err, cfg.Region)
	}
	endpoint := "the AWS endpoint of region " + cfg.Region
	if url := aws.ToString(cfg.BaseEndpoint); url != "" {
		endpoint = fmt.Sprintf("the endpoint %s of AWS_ENDPOINT_URL or the profile, for region %s,", url, cfg.Region)
	}
	return fmt.Errorf("%s can't be reached; correct the region or the endpoint, or look after the network (HTTPS_PROXY, firewall, VPC endpoint of STS): %w", endpoint, err)
}

func (a Access) noCredentials(cfg aws.Config, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case a.AssumeRole.RoleArn != "" && Code(err) == "" && sent(err):
		return fmt.Errorf("assume role %s: %w", a.AssumeRole.RoleArn, reachable(cfg, err))
	case a.AssumeRole.RoleArn != "":
		return fmt.Errorf("assume role %s: %w; check assume_role.role_arn, its trust policy and external_id, and the credentials that assume it", a.AssumeRole.RoleArn, err)
	}
	return fmt.Errorf("no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a `profile`, or run where a role is attached: %w", err)
}

// sent tells whether err is that of a request, and not of finding credentials to
// make one.
func sent(err error) bool {
	request := (*smithyhttp.RequestSendError)(nil)
	return errors.As(err, &request) || errors.Is(err, errNoAnswer)
}

// earlier has credentials renewed before they expire, so that none expire while
// an attempt is under way that was signed with them.
func earlier(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = max(o.ExpiryWindow, AttemptTimeout) }

func (a Access) options() []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client()),
		config.WithRetryer(a.retryer),
		config.WithCredentialsCacheOptions(earlier),
		config.WithAPIOptions([]func(*smithymiddleware.Stack) error{
			middleware.AddUserAgentKeyValue(product, version.Version),
		}),
	}
	if a.Region != "" {
		options = append(options, config.WithRegion(a.Region))
	}
	if a.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(a.Profile))
	}
	if a.AccessKey != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(a.AccessKey, a.SecretKey, a.Token)))
	}
	return options
}

// retryer slows down by itself when the account is throttled: a build is
// rarely alone in its account.
func (a Access) retryer() aws.Retryer {
	attempts := defaultAttempts
	if a.MaxRetries > 0 {
		attempts = a.MaxRetries + 1
	}
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(so *retry.StandardOptions) {
			so.MaxAttempts = attempts
			so.Retryables = append(so.Retryables, retry.IsErrorRetryableFunc(cutShort))
		})
	})
}

// cutShort has a call tried again whose answer ended too soon. The SDK does so
// only where the connection was reset, and not where it was closed.
func cutShort(err error) aws.Ternary {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

func client() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithTimeout(AttemptTimeout).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 10 * time.Second }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = 2 * connections
			t.MaxIdleConnsPerHost = connections
		})
}

func (r AssumeRole) provider(cfg aws.Config) aws.CredentialsProvider {
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg, quick), r.RoleArn, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = product
		if r.SessionName != "" {
			o.RoleSessionName = r.SessionName
		}
		if r.ExternalID != "" {
			o.ExternalID = &r.ExternalID
		}
		if r.DurationSeconds != 0 {
			o.Duration = time.Duration(r.DurationSeconds) * time.Second
		}
	})
}
