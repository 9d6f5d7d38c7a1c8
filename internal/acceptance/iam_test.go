package acceptance

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/iam anew from the calls that were made")

// call is a line of the sandbox's call log.
type call struct {
	Service, Operation, Principal, Error string
	Status                               int
	Actions                              []struct {
		Name      string
		Resources []string
	}
}

func readCalls(t *testing.T, path string) []call {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var calls []call
	for line := range bytes.Lines(text) {
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatalf("%s: %v in %s", path, err, line)
		}
		calls = append(calls, c)
	}
	return calls
}

// policy is an IAM policy document.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect   string
	Action   []string
	Resource []string
}

// identifiers are the parts of an ARN that differ from call to call.
var identifiers = regexp.MustCompile(`(^[a-z]+-[0-9a-f]{8,}$)|(^[0-9a-f-]{16,}$)`)

// leastPolicy permits what the calls of one access key needed, and no more:
// ids become *, regions and the account too.
func leastPolicy(calls []call, principal string) policy {
	resources := map[string]map[string]bool{}
	for _, c := range calls {
		if c.Principal != principal {
			continue
		}
		for _, action := range c.Actions {
			if resources[action.Name] == nil {
				resources[action.Name] = map[string]bool{}
			}
			if len(action.Resources) == 0 {
				resources[action.Name]["*"] = true
			}
			for _, arn := range action.Resources {
				resources[action.Name][generalize(arn)] = true
			}
		}
	}

	// Actions on the same resources share a statement.
	statements := map[string]*statement{}
	for _, action := range slices.Sorted(maps.Keys(resources)) {
		on := slices.Sorted(maps.Keys(resources[action]))
		if slices.Contains(on, "*") {
			on = []string{"*"}
		}
		key := strings.Join(on, " ")
		if statements[key] == nil {
			statements[key] = &statement{Effect: "Allow", Resource: on}
		}
		statements[key].Action = append(statements[key].Action, action)
	}
	document := policy{Version: "2012-10-17"}
	for _, key := range slices.Sorted(maps.Keys(statements)) {
		document.Statement = append(document.Statement, *statements[key])
	}
	return document
}

func generalize(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return arn
	}
	if parts[3] != "" {
		parts[3] = "*"
	}
	if parts[4] != "" {
		parts[4] = "*"
	}
	separators := regexp.MustCompile(`[/:]`)
	kind := separators.Split(parts[5], 2)[0]
	switch kind {
	case parts[5]:
		if identifiers.MatchString(kind) {
			parts[5] = "*"
		}
	default:
		parts[5] = kind + parts[5][len(kind):len(kind)+1] + "*"
	}
	return strings.Join(parts, ":")
}

// checkPolicies compares docs/iam with what the calls of each component's
// access key needed.
func checkPolicies(t *testing.T, calls []call, components map[string]string) {
	t.Helper()
	for _, component := range slices.Sorted(maps.Keys(components)) {
		document := leastPolicy(calls, components[component])
		if len(document.Statement) == 0 {
			t.Errorf("%s made no call with the access key %s", component, components[component])
			continue
		}
		text, err := json.MarshalIndent(document, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		path := filepath.Join(root, "docs/iam", component+".json")
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if documented, err := os.ReadFile(path); err != nil || !bytes.Equal(documented, text) {
			t.Errorf("docs/iam/%s.json is not what the calls needed (%v); run `go test ./internal/acceptance -run MainJob -update` and read the difference:\n%s",
				component, err, text)
		}
	}
}

func TestLeastPolicyGeneralizesIdsAndJoinsActions(t *testing.T) {
	var calls []call
	if err := json.Unmarshal([]byte(`[
	  {"Principal": "A", "Actions": [{"Name": "ebs:PutSnapshotBlock", "Resources": ["arn:aws:ec2:eu-west-1::snapshot/snap-0123456789abcdef0"]}]},
	  {"Principal": "A", "Actions": [{"Name": "ebs:CompleteSnapshot", "Resources": ["arn:aws:ec2:eu-west-1::snapshot/snap-0fedcba9876543210"]}]},
	  {"Principal": "A", "Actions": [{"Name": "ec2:DescribeImages"}]},
	  {"Principal": "B", "Actions": [{"Name": "ec2:TerminateInstances"}]}
	]`), &calls); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(leastPolicy(calls, "A"))
	want := fmt.Sprint(policy{Version: "2012-10-17", Statement: []statement{
		{"Allow", []string{"ec2:DescribeImages"}, []string{"*"}},
		{"Allow", []string{"ebs:CompleteSnapshot", "ebs:PutSnapshotBlock"}, []string{"arn:aws:ec2:*::snapshot/*"}},
	}})
	if got != want {
		t.Errorf("policy %s,\nwant   %s", got, want)
	}
}
