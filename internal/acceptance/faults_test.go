package acceptance

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// badDay makes about one call in five go wrong.
var badDay = []string{
	"--fault", "*,kind=throttle,rate=0.04",
	"--fault", "*,kind=error,rate=0.03",
	"--fault", "*,kind=error,when=after,rate=0.03",
	"--fault", "*,kind=unavailable,rate=0.02",
	"--fault", "*,kind=reset,rate=0.03",
	"--fault", "*,kind=reset,when=after,rate=0.02",
	"--fault", "*,kind=reset,when=midway,rate=0.02",
	"--fault", "*,kind=stall,rate=0.01,for=1m",
	"--fault", "*,kind=stall,when=midway,rate=0.01,for=1m",
	"--fault", "autoscaling:*,kind=contention,rate=0.03",
	// And much of what is made is seen late.
	"--fault", "ebs:StartSnapshot,kind=late,rate=0.3,for=2m",
	"--fault", "ec2:CopyImage,kind=late,rate=0.5,for=2m",
	"--fault", "ec2:RegisterImage,kind=late,rate=0.3,for=2m",
	"--fault", "ec2:Create*,kind=late,rate=0.3,for=1m",
}

// named is how a build must say what went wrong.
var named = regexp.MustCompile(`RequestLimitExceeded|Throttl|Internal|ResourceContention|ServiceUnavailable|connection reset|EOF|deadline exceeded|timeout`)

// prepared are the states of sandboxes that builds begin with.
type prepared struct {
	cold, warm, cache string // directories
	group             group
	ami               string // the group's
}

// prepare makes a group, and then, for warm, a copy of the base, in the account
// and in the cache.
func prepare(t *testing.T, name string) (p prepared) {
	t.Helper()
	dir := t.TempDir()
	p.cold, p.warm, p.cache = filepath.Join(dir, "cold"), filepath.Join(dir, "warm"), filepath.Join(dir, "cache")
	h := newTheatre(t)
	p.ami = takeName(t, h.box, "first")
	p.group = h.newGroup(t, name, p.ami, 10*time.Second)
	keep := func(as string) {
		h.stop(t)
		copyDir(t, as, filepath.Join(h.Dir, "sandbox"))
		h.open(t)
	}
	keep(p.cold)
	h.bake(t, []string{"build", "-var", "name=second", templateFile(t, bakeNoise)})
	keep(p.warm)
	copyDir(t, p.cache, h.Cache)
	return p
}

func copyDir(t *testing.T, to, from string) {
	t.Helper()
	run(t, "/", "cp", "-a", "--sparse=always", from, to)
}

// TestFaults builds and rolls out while one call in five goes wrong. Each build
// succeeds or says why not, and never is an AMI or a group wrong.
func TestFaults(t *testing.T) {
	t.Parallel()
	p := prepare(t, "faulty")
	const all = 120
	seeds := make([]uint64, all)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	var mu sync.Mutex
	succeeded, failed := 0, 0
	t.Cleanup(func() {
		if !t.Failed() && succeeded < 9*failed {
			t.Errorf("of %d builds %d failed: nearly all should get over it", succeeded+failed, failed)
		}
		t.Logf("of %d builds %d succeeded and %d failed cleanly", succeeded+failed, succeeded, failed)
	})
	t.Run("outage", func(t *testing.T) { p.outages(t) })
	for _, seed := range sample(seeds, 2) {
		t.Run("seed="+strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			sayHowToRepeat(t)
			ok := p.try(t, seed)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				succeeded++
			} else {
				failed++
			}
		})
	}
}

// open opens a theatre in the prepared state.
func (p prepared) open(t *testing.T, warm bool, args ...string) (*theatre, group) {
	t.Helper()
	h := &theatre{Stage: newStage(t, t.TempDir())}
	begin := p.cold
	if warm {
		begin = p.warm
		copyDir(t, h.Cache, p.cache)
	}
	copyDir(t, filepath.Join(h.Dir, "sandbox"), begin)
	h.open(t, args...)
	g := p.group
	g.theatre = h
	return h, g
}

// try builds on a bad day of the seed, and looks at the outcome on a good one.
func (p prepared) try(t *testing.T, seed uint64) (succeeded bool) {
	t.Helper()
	// Every fourth build finds nothing that others have left.
	h, g := p.open(t, seed%4 != 0, append([]string{"--seed", strconv.FormatUint(seed, 10)}, badDay...)...)

	kept := filepath.Join(t.TempDir(), "kept.raw")
	output, err := h.Packer(t.Context(), rehearsal.Packer{
		Dir: root, Env: h.box.Environ("AKIAOTHER"), EachLine: h.keepDisk(t, kept),
		Args: []string{"build", "-var", "group=" + g.name, templateFile(t, noiseJob(tagging))},
	})
	t.Cleanup(func() {
		if err != nil || t.Failed() {
			t.Logf("%v\n%s", err, output)
		}
	})
	nothingLeft(t, h.Stage, output)
	h.stop(t)
	h.open(t)
	g.settle(t)

	if err == nil {
		ami := amiIn(t, output)
		h.checkDisk(t, ami, kept)
		g.runs(t, ami)
		return true
	}
	if !named.MatchString(output.String()) {
		t.Errorf("the build failed for no reason that it names: %v\n%s", err, output)
	}
	g.stands(t, p.ami, kept)
	return false
}

// stands fails unless the group is as it was, or AWS has brought it to an AMI
// that is the baked disk.
func (g group) stands(t *testing.T, former, baked string) {
	t.Helper()
	if g.launches(t) == former {
		return
	}
	refreshes := g.refreshes(t)
	if len(refreshes) == 0 || refreshes[0].Status != "Successful" {
		t.Errorf("the group launches %s, and no refresh has succeeded: %v", g.launches(t), refreshes)
	}
	ami := g.launches(t)
	g.runs(t, ami)
	g.checkDisk(t, ami, baked)
}

// outages have one operation fail for good. The build fails, names it and what
// AWS says, cleans up, and leaves the group as it was.
func (p prepared) outages(t *testing.T) {
	t.Parallel()
	hcl := templateFile(t, strings.ReplaceAll(noiseJob(tagging), `secret_key = "rehearsal"`, `secret_key = "rehearsal"
  max_retries = 1`))
	operations := []string{"ec2:DescribeImages", "ec2:RegisterImage", "ec2:DeleteTags", "ec2:CreateTags"}
	if *soak { // these are tried again for minutes
		operations = append(operations, "sts:GetCallerIdentity", "ec2:CreateLaunchTemplateVersion", "autoscaling:StartInstanceRefresh",
			"ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot")
	}
	for _, operation := range sample(operations, 1) {
		t.Run("of "+operation, func(t *testing.T) {
			t.Parallel()
			sayHowToRepeat(t)
			h, g := p.open(t, true, "--fault", operation+",kind=error")
			output, err := h.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: h.box.Environ("AKIAOTHER"), Args: []string{"build", "-var", "group=" + g.name, hcl},
			})
			if err == nil {
				t.Fatalf("the build succeeded:\n%s", output)
			}
			_, name, _ := strings.Cut(operation, ":")
			says(t, output, []string{name, `Internal`})
			nothingLeft(t, h.Stage, output)
			h.stop(t)
			h.open(t)
			for id, tags := range h.marks(t) {
				// What could be deleted was: only a finished AMI is kept, by packer.
				if _, expires := tags["immutable:expires"]; expires {
					t.Errorf("%s is left unfinished, with the tags %v:\n%s", id, tags, output)
				}
			}
			g.settle(t)
			g.runs(t, p.ami)
		})
	}
}
