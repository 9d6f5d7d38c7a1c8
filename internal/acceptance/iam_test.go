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

// refused tells whether a policy did not allow the call.
func (c call) refused() bool {
	return slices.Contains([]string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}, c.Error)
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

// permissions are resources by action: what a policy allows, or should.
type permissions map[string]map[string]bool

func (p permissions) add(action string, resources ...string) {
	if p[action] == nil {
		p[action] = map[string]bool{}
	}
	for _, resource := range resources {
		p[action][resource] = true
	}
}

// neededBy are the permissions that the calls of some access keys needed, and no
// more: ids become *, regions and the account too.
func neededBy(calls []call, principals ...string) permissions {
	p := permissions{}
	for _, c := range calls {
		if !slices.Contains(principals, c.Principal) || c.refused() {
			continue
		}
		for _, action := range c.Actions {
			if len(action.Resources) == 0 {
				p.add(action.Name, "*")
			}
			for _, arn := range action.Resources {
				p.add(action.Name, generalize(arn))
			}
		}
	}
	return p
}

// permissions are those that a policy allows.
func (d policy) permissions() permissions {
	p := permissions{}
	for _, s := range d.Statement {
		for _, action := range s.Action {
			p.add(action, s.Resource...)
		}
	}
	return p
}

// without are the permissions that others don't have.
func (p permissions) without(others permissions) permissions {
	left := permissions{}
	for action, resources := range p {
		for resource := range resources {
			if !others[action][resource] {
				left.add(action, resource)
			}
		}
	}
	return left
}

// policy writes the permissions as a policy, in which actions on the same
// resources share a statement.
func (p permissions) policy() policy {
	statements := map[string]*statement{}
	for _, action := range slices.Sorted(maps.Keys(p)) {
		on := slices.Sorted(maps.Keys(p[action]))
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

// identifier is the last part of an ARN that differs from call to call.
var identifier = regexp.MustCompile(`^[0-9a-f-]{16,}$`)

var separator = regexp.MustCompile(`[/:]`)

// generalize leaves of an ARN the kind of the resource.
func generalize(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return arn
	}
	for i := 3; i < 5; i++ {
		if parts[i] != "" {
			parts[i] = "*"
		}
	}
	kind := separator.Split(parts[5], 2)[0]
	switch {
	case kind != parts[5]:
		parts[5] = kind + parts[5][len(kind):len(kind)+1] + "*"
	case identifier.MatchString(kind):
		parts[5] = "*"
	}
	return strings.Join(parts, ":")
}

// policyFile is where the policy of a part is.
func policyFile(part string) string { return filepath.Join(root, "docs/iam", part+".json") }

func readPolicy(t *testing.T, part string) policy {
	t.Helper()
	text, err := os.ReadFile(policyFile(part))
	if err != nil {
		t.Fatal(err)
	}
	var d policy
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", policyFile(part), err)
	}
	return d
}

func writePolicy(t *testing.T, path string, document policy) {
	t.Helper()
	if err := os.WriteFile(path, documentText(t, document), 0o644); err != nil {
		t.Fatal(err)
	}
}

func documentText(t *testing.T, document policy) []byte {
	t.Helper()
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func TestLeastPolicyGeneralizesIdsAndJoinsActions(t *testing.T) {
	var calls []call
	if err := json.Unmarshal([]byte(`[
	  {"Principal": "A", "Actions": [{"Name": "ebs:PutSnapshotBlock", "Resources": ["arn:aws:ec2:eu-west-1::snapshot/snap-0123456789abcdef0"]}]},
	  {"Principal": "A", "Actions": [{"Name": "ebs:CompleteSnapshot", "Resources": ["arn:aws:ec2:eu-west-1::snapshot/snap-0fedcba9876543210"]}]},
	  {"Principal": "A", "Actions": [{"Name": "ec2:DescribeImages"}]},
	  {"Principal": "A", "Actions": [{"Name": "ec2:RebootInstances"}], "Error": "UnauthorizedOperation"},
	  {"Principal": "B", "Actions": [{"Name": "ec2:TerminateInstances"}]}
	]`), &calls); err != nil {
		t.Fatal(err)
	}
	needed := neededBy(calls, "A")
	got := fmt.Sprint(needed.policy())
	want := fmt.Sprint(policy{Version: "2012-10-17", Statement: []statement{
		{"Allow", []string{"ec2:DescribeImages"}, []string{"*"}},
		{"Allow", []string{"ebs:CompleteSnapshot", "ebs:PutSnapshotBlock"}, []string{"arn:aws:ec2:*::snapshot/*"}},
	}})
	if got != want {
		t.Errorf("policy %s,\nwant   %s", got, want)
	}
	besides := neededBy(calls, "A", "B").without(needed)
	if got, want := fmt.Sprint(besides), fmt.Sprint(permissions{"ec2:TerminateInstances": {"*": true}}); got != want {
		t.Errorf("B needs %s besides, want %s", got, want)
	}
}
