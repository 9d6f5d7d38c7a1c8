package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

// recorder is a stage that notes what happens on it.
type recorder struct {
	mu  sync.Mutex
	all []string
}

func (r *recorder) happened() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf(format, args...))
}

func (r *recorder) SetFaults(rules []fault.Rule) { r.note("faults %v", rules) }

func (r *recorder) SetShortages(region string, shortages []ec2.Shortage) error {
	r.note("%s lacks %v", region, shortages)
	return nil
}

func (r *recorder) SetAlarm(region, name, state, reason string) error {
	r.note("%s alarm %s %s: %s", region, name, state, reason)
	return nil
}

func (r *recorder) SetNewTargets(health string) { r.note("new targets %s", health) }

func (r *recorder) SetTargets(region, group string, newest int, health string) error {
	r.note("%s targets %s %d %s", region, group, newest, health)
	return nil
}

func (r *recorder) SetInstances(region, group string, newest int, healthy bool) error {
	r.note("%s instances %s %d %t", region, group, newest, healthy)
	return fmt.Errorf("there is no group %s", group)
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "day.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// play plays a scenario in a time of its own.
func play(t *testing.T, text string, test func(*Play, *recorder, *[]error)) {
	t.Helper()
	read, err := Read(file(t, text))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := clock.New(clock.Instant, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Stop()
		stage, reported := &recorder{}, []error{}
		test(read.Begin(stage, c, "eu-west-1", func(err error) { reported = append(reported, err) }), stage, &reported)
	})
}

func TestStepsHappenAfterTheirTime(t *testing.T) {
	play(t, `
step {
  after = "40s"
  alarm "errors" {
    state  = "ALARM"
    reason = "too many"
  }
}
step {
  after       = "20s"
  new_targets = "unhealthy"
}
`, func(_ *Play, stage *recorder, _ *[]error) {
		for _, want := range [][]string{nil, {"new targets unhealthy"}, {"new targets unhealthy", "eu-west-1 alarm errors ALARM: too many"}} {
			synctest.Wait()
			if !slices.Equal(stage.happened(), want) {
				t.Errorf("happened %q, want %q", stage.happened(), want)
			}
			time.Sleep(10 * time.Second) // half the time, as the scale says
		}
	})
}

func TestStepsHappenAfterCalls(t *testing.T) {
	play(t, `
step {
  call   = "ec2:RegisterImage"
  nth    = 2
  region = "eu-north-1"
  faults = ["ec2:*,kind=throttle"]
  capacity {
    shortage {
      instance_type = "t3.*"
      lifecycle     = "spot"
    }
  }
  targets "hello" {
    health = "unhealthy"
    newest = 1
  }
}
step {
  call   = "ec2:RegisterImage"
  nth    = 2
  after  = "1m"
  faults = []
}
`, func(p *Play, stage *recorder, _ *[]error) {
		p.Called("ec2:RegisterImage")
		p.Called("ec2:CopyImage")
		if len(stage.happened()) > 0 {
			t.Errorf("after one call happened %q", stage.happened())
		}
		p.Called("ec2:RegisterImage")
		want := []string{"faults [ec2:*,kind=throttle,rate=1]", "eu-north-1 lacks [{t3.*  spot  0 0}]", "eu-north-1 targets hello 1 unhealthy"}
		if !slices.Equal(stage.happened(), want) {
			t.Errorf("after two calls happened %q, want %q", stage.happened(), want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := stage.happened()[len(stage.happened())-1]; last != "faults []" {
			t.Errorf("in the end happened %q, want that the faults are over", last)
		}
	})
}

func TestWhatGoesWrongIsReported(t *testing.T) {
	play(t, `
step {
  after = "0s"
  instances "gone" {
    health = "unhealthy"
  }
}
`, func(_ *Play, _ *recorder, reported *[]error) {
		time.Sleep(time.Second)
		synctest.Wait()
		if len(*reported) != 1 || !strings.Contains((*reported)[0].Error(), "day.hcl:2") || !strings.Contains((*reported)[0].Error(), "no group gone") {
			t.Errorf("reported %v, want the line and the cause", *reported)
		}
	})
}

func TestScenariosAreStrict(t *testing.T) {
	for text, want := range map[string]string{
		`step {`:                  "day.hcl:1",
		`act {}`:                  `"act"`,
		`step { colour = "red" }`: `"colour"`,
		`step { faults = [] }`:    "needs its moment",
		`step { after = "soon" }`: `after "soon" is not a time`,
		`step { after = "1s" }`:   "nothing happens",
		"step {\nafter = \"1s\"\nnth = 2\nfaults = []\n}":                                "nth is about the calls",
		"step {\ncall = \"ec2:CopyImage\"\nnth = -1\nfaults = []\n}":                     "nth is -1",
		"step {\nafter = \"1s\"\nfaults = [\"*,kind=fire\"]\n}":                          `kind "fire" is not known`,
		"step {\nafter = \"1s\"\nregion = \"home\"\nfaults = []\n}":                      `region "home"`,
		"step {\nafter = \"1s\"\nnew_targets = \"ill\"\n}":                               "use one of unhealthy, checked",
		"step {\nafter = \"1s\"\nalarm \"a\" {\nstate = \"RED\"\n}\n}":                   `state of alarm a is "RED"`,
		"step {\nafter = \"1s\"\nalarm \"a\" {\n}\n}":                                    `"state"`,
		"step {\nafter = \"1s\"\ninstances \"g\" {\nhealth = \"checked\"\n}\n}":          "use one of healthy, unhealthy",
		"step {\nafter = \"1s\"\ntargets \"g\" {\nhealth = \"healthy\"\nnewest=-1\n}\n}": "newest of group g is -1",
		"step {\nafter = \"1s\"\ncapacity {\nshortage {\ncode = \"No\"\n}\n}\n}":         `the code "No" is not known`,
	} {
		if _, err := Read(file(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v, want an error with %q", text, err, want)
		}
	}
	if _, err := Read("/nowhere.hcl"); err == nil || !strings.Contains(err.Error(), "/nowhere.hcl") {
		t.Errorf("a file that does not exist gives %v", err)
	}
}

func TestScenariosAreCheckedAgainstTheSandbox(t *testing.T) {
	for text, want := range map[string]string{
		"step {\ncall = \"ec2:Fly\"\nfaults = []\n}":                          `call "ec2:Fly" is not an operation`,
		"step {\nafter = \"1s\"\nfaults = [\"ec2:Fly,kind=error\"]\n}":        "no operation of the sandbox is called ec2:Fly",
		"step {\nafter = \"1s\"\nnew_targets = \"unhealthy\"\n}":              "--machines none",
		"step {\ncall = \"ec2:CopyImage\"\nfaults = [\"*,kind=throttle\"]\n}": "",
	} {
		s, err := Read(file(t, text))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Check([]string{"ec2:CopyImage"}, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\ngives %v, want %q", text, err, want)
		}
	}
}
