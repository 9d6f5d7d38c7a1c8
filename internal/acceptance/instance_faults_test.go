package acceptance

import (
	"strconv"
	"sync"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// badDayOfInstances is what goes wrong besides: the key is seen late.
var badDayOfInstances = []string{"--fault", "ec2:ImportKeyPair,kind=late,rate=0.3,for=1m"}

// TestInstanceFaults builds on instances while one call in five goes wrong. Each
// build makes its AMI or says why not, and a sweep removes what it could not.
func TestInstanceFaults(t *testing.T) {
	t.Parallel()
	const all = 40
	seeds := make([]uint64, all)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	hcl := templateFile(t, bakeOnInstance)
	var mu sync.Mutex
	succeeded, failed := 0, 0
	t.Cleanup(func() {
		if !t.Failed() && succeeded < 9*failed {
			t.Errorf("of %d builds %d failed: nearly all should get over it", succeeded+failed, failed)
		}
		t.Logf("of %d builds %d succeeded and %d failed cleanly", succeeded+failed, succeeded, failed)
	})
	for _, seed := range sample(seeds, 1) {
		t.Run("seed="+strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			sayHowToRepeat(t)
			ok := bakeOnABadDay(t, hcl, seed)
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

func bakeOnABadDay(t *testing.T, hcl string, seed uint64) (succeeded bool) {
	t.Helper()
	// Waiting takes a twentieth of its time.
	usual := []string{"--base-disk", basedisk.Path(t), "--machines", "container", "--time-scale", "0.05"}
	h := newTheatre(t, usual[2:]...)
	before := h.everything(t)
	h.stop(t)
	bad := append([]string{"--seed", strconv.FormatUint(seed, 10)}, append(badDayOfInstances, badDay...)...)
	h.open(t, append(usual, bad...)...)
	output, err := h.Packer(t.Context(), rehearsal.Packer{
		Dir: root, Env: h.box.Environ(other), Args: []string{"build", "-var", "name=bad-day", hcl},
	})
	t.Cleanup(func() {
		if err != nil || t.Failed() {
			t.Logf("%v\n%s", err, output)
		}
	})
	nothingLeft(t, h.Stage, output)
	h.stop(t)
	h.open(t, usual...)
	h.swept(t, before)
	if err != nil {
		if !named.MatchString(output.String()) {
			t.Errorf("the build failed for no reason that it names: %v\n%s", err, output)
		}
		return false
	}
	ami := amiIn(t, output)
	if state := h.everything(t)[ami]; state != finished {
		t.Errorf("AMI %s is %q", ami, state)
	}
	return true
}
