package seal

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestScriptIsValidShell(t *testing.T) {
	for _, keep := range [][]string{nil, names(Items)} {
		check := exec.CommandContext(t.Context(), "sh", "-n")
		check.Stdin = strings.NewReader(script(keep))
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, script(keep))
		}
	}
}

func TestKeepLeavesAStepOut(t *testing.T) {
	for _, item := range Items {
		step := "\nstep=" + item.Name + "\n"
		if !strings.Contains(script(nil), step) {
			t.Errorf("%s has no step", item.Name)
		}
		if strings.Contains(script([]string{item.Name}), step) {
			t.Errorf("%s has a step although it is kept", item.Name)
		}
	}
}

// Patterns go into the script as they are: they must be words of a shell.
func TestPatternsAreAbsoluteAndNeedNoQuotes(t *testing.T) {
	form := regexp.MustCompile(`^(~|/(etc|var|boot|efi))/[A-Za-z0-9_./*@-]+$`)
	for _, item := range Items {
		for _, patterns := range [][]string{item.Shred, item.Remove, item.Empty} {
			for _, pattern := range patterns {
				if !form.MatchString(pattern) {
					t.Errorf("%s: pattern %q", item.Name, pattern)
				}
			}
		}
	}
}

func TestItemsAreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, item := range Items {
		if seen[item.Name] || !regexp.MustCompile(`^[a-z-]+$`).MatchString(item.Name) {
			t.Errorf("name %q is used twice, or has other characters than a-z and -", item.Name)
		}
		seen[item.Name] = true
		if item.Why == "" || (item.First == "") != (item.Does == "") {
			t.Errorf("%s lacks its reason, or words for its shell", item.Name)
		}
	}
	committed, err := os.ReadFile("../../docs-partials/internal/seal/Items.mdx")
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != Document() {
		t.Error("docs-partials/internal/seal/Items.mdx is stale; run make generate")
	}
}

func TestCheckRefusesWhatIsNoItem(t *testing.T) {
	if errs := Check([]string{"hostname", "locale"}); len(errs) > 0 {
		t.Errorf("Check gave %v", errs)
	}
	errs := Check([]string{"hostname", "host-name"})
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), `"host-name"`) || !strings.Contains(errs[0].Error(), "machine-id") {
		t.Errorf("Check gave %v", errs)
	}
}
