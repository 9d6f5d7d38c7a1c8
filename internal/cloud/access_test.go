package cloud

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// alone hides the AWS configuration of whoever runs the test.
func alone(t *testing.T, environment map[string]string) {
	t.Helper()
	for _, name := range []string{
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_ENDPOINT_URL", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

func TestPrepareNamesOptionValueAndRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		access Access
		wants  []string
	}{
		"a region that does not exist": {Access{Region: "eu-wst-1"}, []string{`region "eu-wst-1"`, `Did you mean "eu-west-1"?`, "skip_region_validation"}},
		"no region":                    {Access{}, []string{"region is not set", "AWS_REGION"}},
		"half a pair of keys":          {Access{Region: "eu-west-1", AccessKey: "AKIA"}, []string{"access_key and secret_key"}},
		"a token alone":                {Access{Region: "eu-west-1", Token: "t"}, []string{"token is given without access_key"}},
		"a profile that is not there":  {Access{Region: "eu-west-1", Profile: "nobody"}, []string{`profile "nobody"`, "aws configure"}},
		"a role without a name":        {Access{Region: "eu-west-1", AssumeRole: AssumeRole{ExternalID: "x"}}, []string{"assume_role has no role_arn"}},
		"a session of a minute":        {Access{Region: "eu-west-1", AssumeRole: AssumeRole{RoleArn: "a", DurationSeconds: 60}}, []string{"duration_seconds is 60", "900"}},
		"fewer than no retries":        {Access{Region: "eu-west-1", MaxRetries: -1}, []string{"max_retries is -1"}},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, nil)
			errs := c.access.Prepare()
			if len(errs) != 1 {
				t.Fatalf("errors are %v, want one", errs)
			}
			for _, want := range c.wants {
				if !strings.Contains(errs[0].Error(), want) {
					t.Errorf("error is %q, want %q in it", errs[0], want)
				}
			}
		})
	}
}

func TestCheckAccessAsksForNoRegion(t *testing.T) {
	alone(t, nil)
	if errs := (Access{}).CheckAccess(); len(errs) > 0 {
		t.Errorf("without a region: %v", errs)
	}
	if errs := (Access{Region: "eu-wst-1"}).CheckAccess(); len(errs) != 1 {
		t.Errorf("with one that does not exist: %v", errs)
	}
}

func TestPrepareFindsTheRegion(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("[profile far]\nregion = ap-south-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		access      Access
		environment map[string]string
		want        string
	}{
		"in the option, before the environment": {Access{Region: "eu-west-1"}, map[string]string{"AWS_REGION": "us-east-1"}, "eu-west-1"},
		"in the environment":                    {Access{}, map[string]string{"AWS_REGION": "us-east-1"}, "us-east-1"},
		"in the profile":                        {Access{Profile: "far"}, map[string]string{"AWS_CONFIG_FILE": config}, "ap-south-1"},
		"though it is new":                      {Access{Region: "eu-new-1", SkipRegionValidation: true}, nil, "eu-new-1"},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, c.environment)
			if errs := c.access.Prepare(); len(errs) > 0 {
				t.Fatal(errs)
			}
			if c.access.Region != c.want {
				t.Errorf("region is %q, want %q", c.access.Region, c.want)
			}
		})
	}
}

func TestLoadWithoutCredentialsSaysWhatToSet(t *testing.T) {
	alone(t, nil)
	_, err := Access{Region: "eu-west-1"}.Load(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no AWS credentials found; set AWS_ACCESS_KEY_ID") {
		t.Errorf("Load gave %v", err)
	}
}

func TestLoadProvesTheCredentials(t *testing.T) {
	var agent string
	status := http.StatusOK
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent = r.UserAgent()
		w.WriteHeader(status)
		answer := `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`
		if status != http.StatusOK {
			answer = `<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>`
		}
		if _, err := w.Write([]byte(answer)); err != nil {
			t.Error(err)
		}
	}))
	defer sts.Close()
	alone(t, map[string]string{"AWS_ENDPOINT_URL": sts.URL})
	access := Access{Region: "eu-west-1", AccessKey: "AKIA", SecretKey: "secret"}

	cfg, err := access.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if account, err := Account(t.Context(), cfg); err != nil || account != "123456789012" {
		t.Errorf("account is %q, %v", account, err)
	}
	if !strings.Contains(agent, "packer-plugin-immutable/") {
		t.Errorf("the user agent is %q", agent)
	}

	status = http.StatusForbidden
	_, err = access.Load(t.Context())
	if Code(err) != "InvalidClientTokenId" || strings.Contains(err.Error(), "secret") {
		t.Errorf("Load gave %v", err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	alone(t, map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Access{Region: "eu-west-1", AccessKey: "AKIA", SecretKey: "secret"}).Load(ctx); err == nil {
		t.Error("Load succeeded")
	}
}

func TestInIsTheSameAccessElsewhere(t *testing.T) {
	here := Access{Region: "eu-west-1", Profile: "p"}
	if there := here.In("us-east-1"); there.Region != "us-east-1" || there.Profile != "p" || here.Region != "eu-west-1" {
		t.Errorf("%+v from %+v", there, here)
	}
}
