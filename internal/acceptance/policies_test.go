package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// TestPolicies plays all acts of all parts, each part under its policy of
// docs/iam. It fails where a policy permits less than the acts need, or more.
// With -update the policies are written from what the acts need.
func TestPolicies(t *testing.T) {
	t.Parallel()
	cast := newCast(t)
	for _, p := range parts {
		for _, a := range p.acts {
			var enforced []string
			if !*update {
				enforced = p.policies()
			}
			if a.denied != "" {
				enforced = append(enforced, cast.deny(t, a.denied, enforced))
			}
			cast.give(p.key(a), enforced)
		}
	}
	still, live := openCast(t, cast)
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			if p.machines && p.of != "" && !*soak && !*update {
				t.Skip("options of what boots machines are played with -soak")
			}
			h := still
			if p.machines {
				h = live
			}
			var keys []string
			for _, a := range p.acts {
				keys = append(keys, p.key(a))
				output, err := a.play(t, newScene(h, p.key(a), p.region(a)))
				if (err != nil) != a.fails {
					t.Fatalf("%s: %v\n%s", a.name, err, output)
				}
				nothingLeft(t, h.Stage, output)
			}
			calls := readCalls(t, filepath.Join(h.Dir, "calls.jsonl"))
			p.checkRefused(t, calls)
			p.checkPolicy(t, neededBy(calls, keys...))
		})
	}
}

// region is where the part plays an act. A component that copies the base has
// regions of its own, so that its policy permits the copy whatever was played
// before.
func (p part) region(a act) string {
	switch {
	case a.cold:
		return regions[0]
	case p.name == "immutable-direct" || p.of == "immutable-direct":
		return regions[1]
	case p.name == "immutable-disk":
		return regions[2]
	}
	return rehearsal.Region
}

// callNoService are the components that call no AWS service, or only where an
// option says so (docs/iam.md).
var callNoService = []string{"immutable-commit", "immutable-rpm", "immutable-seal"}

func TestEveryComponentThatCallsAWSHasAPolicy(t *testing.T) {
	described, err := exec.CommandContext(t.Context(), newStage(t, t.TempDir()).Plugin, "describe").Output()
	if err != nil {
		t.Fatal(err)
	}
	var plugin struct {
		Builders       []string
		PostProcessors []string `json:"post_processors"`
		Provisioners   []string
		Datasources    []string
	}
	if err := json.Unmarshal(described, &plugin); err != nil {
		t.Fatalf("%v: %s", err, described)
	}
	documentation, err := os.ReadFile(filepath.Join(root, "docs/iam.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(plugin.Builders, plugin.PostProcessors, plugin.Provisioners, plugin.Datasources) {
		name = "immutable-" + name
		played := slices.ContainsFunc(parts, func(p part) bool { return p.name == name })
		if played == slices.Contains(callNoService, name) {
			t.Errorf("%s is a part that has a policy: %v; a component either is, or calls no service", name, played)
		}
		if !strings.Contains(string(documentation), "`"+name+"`") {
			t.Errorf("docs/iam.md does not tell of %s", name)
		}
	}
	for _, p := range parts {
		if !strings.Contains(string(documentation), "(iam/"+p.name+".json)") {
			t.Errorf("docs/iam.md does not tell of %s.json", p.name)
		}
	}
}

// key is the access key of a part in an act.
func (p part) key(a act) string {
	return "AKIA" + strings.ToUpper(regexp.MustCompile(`[^a-z0-9]`).ReplaceAllString(strings.ToLower(p.name+a.name), ""))
}

// policies are the files of a part's policies.
func (p part) policies() []string {
	files := []string{policyFile(p.name)}
	if p.of != "" {
		files = append(files, policyFile(p.of))
	}
	return files
}

// checkRefused fails where a call was refused that an act is not denied.
func (p part) checkRefused(t *testing.T, calls []call) {
	t.Helper()
	for _, a := range p.acts {
		for _, c := range calls {
			if c.Principal == p.key(a) && c.refused() && c.Actions[len(c.Actions)-1].Name != a.denied {
				t.Errorf("%s: refused: %s: %v", a.name, c.Operation, c.Actions)
			}
		}
	}
}

// checkPolicy compares a part's policy with what it needed.
func (p part) checkPolicy(t *testing.T, needed permissions) {
	t.Helper()
	if p.of != "" {
		needed = needed.without(readPolicy(t, p.of).permissions())
	}
	if len(needed) == 0 {
		t.Fatal("nothing needs to be permitted")
	}
	if *update {
		writePolicy(t, policyFile(p.name), needed.policy())
		return
	}
	text := documentText(t, needed.policy())
	if documented, err := os.ReadFile(policyFile(p.name)); err != nil || !bytes.Equal(documented, text) {
		t.Errorf("docs/iam/%s.json is not what the calls needed (%v); run `go test ./internal/acceptance -run '^TestPolicies$' -update` and read the difference:\n%s",
			p.name, err, text)
	}
}

// cast are the access keys of a sandbox, and which policies they have.
type cast struct {
	dir   string
	files int
	args  []string // of the sandbox
}

func newCast(t *testing.T) *cast { return &cast{dir: t.TempDir()} }

// openCast opens a theatre without machines and one with.
func openCast(t *testing.T, c *cast) (still, live *theatre) {
	t.Helper()
	args := slices.Concat(c.args, []string{"--regions", rehearsal.Region + "," + strings.Join(regions, ",")})
	return newTheatre(t, args...), newTheatre(t, slices.Concat(args, []string{"--machines", "container"})...)
}

// give enforces policies on an access key.
func (c *cast) give(key string, policies []string) {
	for _, file := range policies {
		c.args = append(c.args, "--enforce-policy", key+"="+file)
	}
}

// write writes a policy of the test's own.
func (c *cast) write(t *testing.T, document policy) (file string) {
	t.Helper()
	c.files++
	file = filepath.Join(c.dir, fmt.Sprintf("%d.json", c.files))
	writePolicy(t, file, document)
	return file
}

// deny writes a policy that denies an action. Where it is the only one it permits
// all else.
func (c *cast) deny(t *testing.T, action string, others []string) (file string) {
	t.Helper()
	document := policy{Version: "2012-10-17", Statement: []statement{{"Deny", []string{action}, []string{"*"}}}}
	if len(others) == 0 {
		document.Statement = append(document.Statement, statement{"Allow", []string{"*"}, []string{"*"}})
	}
	return c.write(t, document)
}

// want is a part that lacks an action, and the act that is to fail for it.
type want struct {
	part   part
	act    act
	action string
}

// wants lists every action of every policy.
func wants(t *testing.T) (all []want) {
	t.Helper()
	for _, p := range parts {
		var actions []string
		for action := range readPolicy(t, p.name).permissions() {
			actions = append(actions, action)
		}
		slices.Sort(actions)
		for _, action := range actions {
			of := func(a act) bool { return slices.Contains(a.starved, action) }
			if !slices.ContainsFunc(p.acts, of) {
				of = func(a act) bool { return !a.fails }
			}
			all = append(all, want{p, p.acts[slices.IndexFunc(p.acts, of)], action})
		}
	}
	return all
}

// regions are where builds have not copied the base yet.
var regions = []string{
	"us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "eu-central-1", "eu-west-2", "eu-west-3", "eu-north-1",
	"ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3",
}

// TestAPartThatLacksAnActionSaysWhich takes each action in turn out of each
// policy. The part fails, says which action it lacks, and leaves nothing half
// done; where what it lacks is the action to clean up, what it leaves says that
// it is a build's that has not ended.
func TestAPartThatLacksAnActionSaysWhich(t *testing.T) {
	t.Parallel()
	chosen := sample(wants(t), 6)
	cast := newCast(t)
	key := func(w want) string {
		return w.part.key(act{name: w.act.name + strings.ReplaceAll(w.action, ":", "")})
	}
	for _, w := range chosen {
		enforced := []string{}
		document := readPolicy(t, w.part.name).permissions()
		delete(document, w.action)
		if w.part.of != "" {
			enforced = append(enforced, policyFile(w.part.of))
		}
		if len(document) > 0 {
			enforced = append(enforced, cast.write(t, document.policy()))
		}
		if w.act.denied != "" {
			enforced = append(enforced, cast.deny(t, w.act.denied, enforced))
		}
		cast.give(key(w), enforced)
	}
	still, live := openCast(t, cast)
	cold := slices.Clone(regions)
	for _, w := range chosen {
		t.Run(w.part.name+" "+w.action, func(t *testing.T) {
			sayHowToRepeat(t)
			h := still
			if w.part.machines {
				h = live
			}
			s := newScene(h, key(w), rehearsal.Region)
			if w.cold() {
				s.region, cold = cold[0], cold[1:]
			}
			output, err := w.act.play(t, s)
			if err == nil && !slices.Contains(tidies, w.action) {
				t.Fatalf("it went on to its end without %s:\n%s", w.action, output)
			}
			if !strings.Contains(output.String(), w.action) {
				t.Errorf("it does not say that it lacks %s:\n%s", w.action, output)
			}
			if left := s.before.left(s.holdings(t)); !w.mayLeave(left, output, err == nil) {
				t.Errorf("it leaves\n%s\n%s", left, output)
			}
			nothingLeft(t, h.Stage, output)
		})
	}
}

// mayLeave tells whether a part that lacks the action may leave this, having
// succeeded all the same or not.
func (w want) mayLeave(left holdings, output rehearsal.Output, succeeded bool) bool {
	for id, what := range left {
		unfinished := strings.Contains(what, "immutable:expires")
		switch {
		case succeeded && !unfinished: // what it was to make
		case w.part.name == "sweep": // it removes what it can
		case strings.Contains(what, "immutable:copy-of") && !unfinished: // the base, for the next build
		case slices.Contains(cleansUp, w.action) && unfinished: // sweep finds it
		case !strings.HasPrefix(id, "lt-") || !strings.HasPrefix(what, "immutable-rollout: "):
			return false
		case w.action == "ec2:DeleteLaunchTemplateVersions":
		case output.Find("Started instance refresh") != nil: // the group has instances of this version
		default:
			return false
		}
	}
	return true
}

// cleansUp are the actions by which a failed build takes back what it made.
var cleansUp = append([]string{"ec2:DeregisterImage", "ec2:DeleteSnapshot"}, tidies...)

// tidies are the actions by which a build takes back what it made for itself. For
// want of these it says what it leaves, and does not fail.
var tidies = []string{"ec2:DeleteKeyPair", "ec2:DeleteLaunchTemplate", "ec2:DeleteSecurityGroup", "ec2:TerminateInstances"}

// cold tells whether the part is to fail while it copies the base for the first
// time.
func (w want) cold() bool {
	reads := slices.Contains([]string{"ec2:CopyImage", "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock"}, w.action)
	return w.act.cold || reads || w.part.name == "immutable-disk" && slices.Contains([]string{"ec2:CreateTags", "ec2:DeleteTags"}, w.action)
}
