package command

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
)

// openSandbox runs a sandbox, in which the access key AKIASWEEP may do what the
// policy permits, and gives a way to leave key pairs in its regions.
func openSandbox(t *testing.T, policy string) (leave func(region, name, run string, expires time.Time) (id string)) {
	t.Helper()
	dir := t.TempDir()
	ready, file := filepath.Join(dir, "ready"), filepath.Join(dir, "policy.json")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var stdout, stderr bytes.Buffer
	done := make(chan int)
	go func() {
		done <- Sandbox(ctx, []string{"--listen", "127.0.0.1:0", "--machines", "none", "--ready-file", ready, "--enforce-policy", "AKIASWEEP=" + file}, &stdout, &stderr)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("exit status %d of the sandbox: %s", code, stderr.String())
		}
	})
	var url []byte
	for deadline := time.Now().Add(time.Minute); len(url) == 0; time.Sleep(time.Millisecond) {
		url, _ = os.ReadFile(ready)
		if time.Now().After(deadline) {
			t.Fatal("the sandbox is not ready")
		}
	}
	endpoint := strings.TrimSpace(string(url))
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIASWEEP")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "rehearsal")
	t.Setenv("AWS_REGION", "eu-west-1")
	return func(region, name, run string, expires time.Time) string {
		t.Helper()
		client := ec2.NewFromConfig(aws.Config{Region: region, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("AKIAOTHER", "rehearsal", "")})
		made, err := client.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: &name, TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeKeyPair, Tags: []types.Tag{
				{Key: aws.String("immutable:run"), Value: &run},
				{Key: aws.String("immutable:expires"), Value: aws.String(expires.UTC().Format(time.RFC3339))},
				{Key: aws.String("Name"), Value: &name},
			},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return *made.KeyPairId
	}
}

const allowAll = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]}]}`

// sweepWith runs the command.
func sweepWith(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	code = Sweep(t.Context(), args, &out, &problems)
	return code, out.String(), problems.String()
}

func TestSweepRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // nobody is asked
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--colour", "red"}, 2, "-colour"},
		{[]string{"now"}, 2, `unexpected argument "now"; it takes flags only`},
		{[]string{"--region", "eu-wset-1"}, 2, `region "eu-wset-1"`},
		{[]string{"--region", "eu-west-1,eu-wset-1", "--yes"}, 2, `region "eu-wset-1"`},
		{[]string{"--region", "eu-west-2,", "--yes"}, 2, `--region is "eu-west-2,"; give names such as eu-west-1, separated by commas`},
		{[]string{"--profile", "nobody"}, 2, `profile "nobody"`},
		{[]string{"--help"}, 0, "-region"},
	} {
		if code, stdout, stderr := sweepWith(t, test.args...); code != test.code || !strings.Contains(stderr, test.want) || stdout != "" {
			t.Errorf("%v: exit status %d, want %d, saying %q; it says %s%s", test.args, code, test.code, test.want, stdout, stderr)
		}
	}
}

var expired = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestSweepPrintsATable(t *testing.T) {
	leave := openSandbox(t, allowAll)
	if code, stdout, stderr := sweepWith(t); code != 0 || stdout != "Nothing is left behind.\n" || stderr != "" {
		t.Errorf("exit status %d, %q, %q", code, stdout, stderr)
	}
	near, far := leave("eu-west-1", "web", "dead", expired), leave("us-east-1", "web-2", "other", expired)
	table := func(state string) string {
		return "REGION KIND ID NAME RUN EXPIRES STATE\n" +
			"eu-west-1 key-pair " + near + " web dead 2026-01-02T03:04:05Z " + state + "\n" +
			"us-east-1 key-pair " + far + " web-2 other 2026-01-02T03:04:05Z " + state + "\n"
	}
	for _, test := range []struct{ args, want string }{
		{"", table("left behind") + "\nNothing was removed. Give --yes to remove these.\n"},
		{"--yes", table("removed")},
		{"--yes", "Nothing is left behind.\n"},
	} {
		code, stdout, stderr := sweepWith(t, append(strings.Fields(test.args), "--region", "eu-west-1, us-east-1,eu-west-1")...)
		if got := regexp.MustCompile(" +").ReplaceAllString(stdout, " "); code != 0 || stderr != "" || got != test.want {
			t.Errorf("%s: exit status %d, saying %q, printing\n%swant\n%s", test.args, code, stderr, got, test.want)
		}
	}
}

func TestSweepPrintsJSON(t *testing.T) {
	leave := openSandbox(t, allowAll)
	if code, stdout, _ := sweepWith(t, "--json"); code != 0 || stdout != "[]\n" {
		t.Errorf("nothing: exit status %d, %q", code, stdout)
	}
	id, living := leave("eu-west-1", "web", "dead", expired), leave("eu-west-1", "web-2", "living", time.Date(2126, 1, 2, 3, 4, 5, 0, time.UTC))
	for _, test := range []struct {
		args string
		want map[string]any
	}{
		{"--json", map[string]any{"region": "eu-west-1", "kind": "key-pair", "id": id, "name": "web", "run": "dead", "expires": "2026-01-02T03:04:05Z", "removed": false}},
		{"--json --run living", map[string]any{"region": "eu-west-1", "kind": "key-pair", "id": living, "name": "web-2", "run": "living", "expires": "2126-01-02T03:04:05Z", "removed": false}},
		{"--json --run living --yes", map[string]any{"region": "eu-west-1", "kind": "key-pair", "id": living, "name": "web-2", "run": "living", "expires": "2126-01-02T03:04:05Z", "removed": true}},
		{"--json --yes", map[string]any{"region": "eu-west-1", "kind": "key-pair", "id": id, "name": "web", "run": "dead", "expires": "2026-01-02T03:04:05Z", "removed": true}},
	} {
		code, stdout, stderr := sweepWith(t, strings.Fields(test.args)...)
		var found []map[string]any
		if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != 0 || stderr != "" {
			t.Fatalf("%s: exit status %d, saying %q, printing %s: %v", test.args, code, stderr, stdout, err)
		}
		if diff := cmp.Diff([]map[string]any{test.want}, found); diff != "" {
			t.Errorf("%s:\n%s", test.args, diff)
		}
	}
}

func TestSweepTellsWhatItCouldNotRemove(t *testing.T) {
	leave := openSandbox(t, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]},
		{"Effect": "Deny", "Action": ["ec2:DeleteKeyPair"], "Resource": ["arn:aws:ec2:us-east-1:*:*"]}
	]}`)
	near, far := leave("eu-west-1", "web", "dead", expired), leave("us-east-1", "web", "dead", expired)
	code, stdout, stderr := sweepWith(t, "--yes", "--region", "us-east-1,eu-west-1")
	if code != 1 || !strings.Contains(stderr, "remove key-pair "+far+" in us-east-1: ") || !strings.Contains(stderr, "ec2:DeleteKeyPair") {
		t.Errorf("exit status %d, saying %s", code, stderr)
	}
	for _, want := range []string{"us-east-1.*" + far + ".* kept: .*ec2:DeleteKeyPair", "eu-west-1.*" + near + ".* removed"} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("printed\n%swant a line %s", stdout, want)
		}
	}
	code, stdout, _ = sweepWith(t, "--yes", "--json", "--region", "us-east-1,eu-west-1")
	var found []struct {
		ID, Kept string
		Removed  bool
	}
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != 1 || len(found) != 1 || found[0].ID != far || found[0].Removed || !strings.Contains(found[0].Kept, "ec2:DeleteKeyPair") {
		t.Errorf("exit status %d, printing %s", code, stdout)
	}
}

// Where a region can't be looked into, nobody says that nothing is left.
func TestSweepThatSeesNothingDoesNotSaySo(t *testing.T) {
	openSandbox(t, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]},
		{"Effect": "Deny", "Action": ["ec2:DescribeTags"], "Resource": ["*"]}
	]}`)
	code, stdout, stderr := sweepWith(t, "--region", "us-east-1,eu-west-1")
	for _, region := range []string{"us-east-1", "eu-west-1"} {
		if want := "list the tags in " + region + " (ec2:DescribeTags)"; code != 1 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("exit status %d, %q, saying %s, want %s", code, stdout, stderr, want)
		}
	}
}
