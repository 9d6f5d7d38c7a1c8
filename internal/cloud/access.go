// Package cloud is the one place where the plugin gets its AWS configuration:
// region, credentials, retries, waiting, and the tags that everything a run
// creates must bear.
package cloud

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type AssumeRole

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/hashicorp/packer-plugin-sdk/didyoumean"
)

// Access says with which credentials, and in which region, AWS is called. The
// names of its options are those of the `amazon` plugin. Without any of them
// the usual chain of AWS's tools is followed: environment variables, the
// shared configuration files, and the role of the container or the instance.
type Access struct {
	// The region in which the build works, such as `eu-west-1`. By default
	// that of `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile.
	Region string `mapstructure:"region" required:"false"`
	// The profile in the shared AWS configuration files to use. By default
	// that of `AWS_PROFILE`, else `default`.
	Profile string `mapstructure:"profile" required:"false"`
	// The access key to use. Better left out: the usual chain of environment,
	// profile, and role keeps keys out of templates.
	AccessKey string `mapstructure:"access_key" required:"false"`
	// The secret key that belongs to `access_key`.
	SecretKey string `mapstructure:"secret_key" required:"false"`
	// The session token, where `access_key` is a temporary one.
	Token string `mapstructure:"token" required:"false"`
	// A role to assume with the credentials found. See
	// [Assume Role Configuration](#assume-role-configuration).
	AssumeRole AssumeRole `mapstructure:"assume_role" required:"false"`
	// How often a call that AWS throttles, or that fails for a passing
	// reason, is tried again. Default 9.
	MaxRetries int `mapstructure:"max_retries" required:"false"`
	// Accept a `region` that this version of the plugin does not know.
	// Default false.
	SkipRegionValidation bool `mapstructure:"skip_region_validation" required:"false"`
}

// AssumeRole is a role to assume before any other call:
//
// ```hcl
//
//	assume_role {
//	  role_arn     = "arn:aws:iam::123456789012:role/baker"
//	  session_name = "bake"
//	  external_id  = "a-shared-secret"
//	}
//
// ```
type AssumeRole struct {
	// The ARN of the role.
	RoleArn string `mapstructure:"role_arn" required:"false"`
	// The name that the session has in CloudTrail. Default
	// `packer-plugin-immutable`.
	SessionName string `mapstructure:"session_name" required:"false"`
	// The external ID that the role's trust policy asks for.
	ExternalID string `mapstructure:"external_id" required:"false"`
	// How long the role's credentials are valid, in seconds (900 to 43200);
	// they are renewed as long as the build runs. Default 900.
	DurationSeconds int `mapstructure:"duration_seconds" required:"false"`
}

// Secrets are what must not be logged.
func (a Access) Secrets() []string { return []string{a.SecretKey, a.Token, a.AssumeRole.ExternalID} }

// In is the same access in another region.
func (a Access) In(region string) Access {
	a.Region = region
	return a
}

// CheckAccess is Prepare for those whose region may become known only later: what a
// post-processor works on tells it.
func (a Access) CheckAccess() []error {
	if a.Region == "" {
		a.Region = "us-east-1" // no matter which
	}
	return a.Prepare()
}

// Prepare checks the options without a call to AWS, and fills in the region
// from the environment or the profile if it is not given.
func (a *Access) Prepare() []error {
	var errs []error
	if (a.AccessKey == "") != (a.SecretKey == "") {
		errs = append(errs, errors.New("access_key and secret_key: one is given without the other; give both, or neither"))
	}
	if a.Token != "" && a.AccessKey == "" {
		errs = append(errs, errors.New("token is given without access_key and secret_key; give all three, or none"))
	}
	if a.MaxRetries < 0 {
		errs = append(errs, fmt.Errorf("max_retries is %d; give 0 (the default) or more", a.MaxRetries))
	}
	errs = append(errs, a.AssumeRole.prepare()...)

	if err := a.findRegion(); err != nil {
		return append(errs, err)
	}
	if err := a.checkRegion(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func (r AssumeRole) prepare() []error {
	var errs []error
	if r.RoleArn == "" {
		if r != (AssumeRole{}) {
			errs = append(errs, errors.New("assume_role has no role_arn; name the role to assume"))
		}
		return errs
	}
	if d := r.DurationSeconds; d != 0 && (d < 900 || d > 43200) {
		errs = append(errs, fmt.Errorf("assume_role.duration_seconds is %d; AWS allows 900 to 43200", d))
	}
	return errs
}

// findRegion reads files and the environment only: the SDK looks up a region
// over the network for nobody who does not ask it to.
func (a *Access) findRegion() error {
	cfg, err := config.LoadDefaultConfig(context.Background(), a.options()...)
	if missing := (config.SharedConfigProfileNotExistError{}); errors.As(err, &missing) {
		return fmt.Errorf("profile %q is in none of the AWS configuration files; correct `profile` (or AWS_PROFILE), or add it with `aws configure --profile %s`", missing.Profile, missing.Profile)
	}
	if err != nil {
		return fmt.Errorf("read the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return errors.New("region is not set; set `region`, AWS_REGION, or the region of the AWS profile, for example to \"eu-west-1\"")
	}
	a.Region = cfg.Region
	return nil
}

func (a *Access) checkRegion() error {
	if a.SkipRegionValidation || slices.Contains(regions, a.Region) {
		return nil
	}
	hint := ""
	if near := didyoumean.NameSuggestion(a.Region, regions); near != "" {
		hint = fmt.Sprintf(" Did you mean %q?", near)
	}
	return fmt.Errorf("region %q is not a region of AWS that this plugin knows; correct `region`, or set skip_region_validation = true if it is newer than the plugin.%s", a.Region, hint)
}
