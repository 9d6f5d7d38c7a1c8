package ami

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReuseTagsHoldTheKeyOrItsDigest(t *testing.T) {
	for name, test := range map[string]struct {
		key  string
		want map[string]string
	}{
		"none":                    {"", nil},
		"short":                   {"hello 1.0.0", map[string]string{TagReuseKey: "hello 1.0.0", TagBase: "ami-0ab1"}},
		"as long as a tag can be": {strings.Repeat("k", 256), map[string]string{TagReuseKey: strings.Repeat("k", 256), TagBase: "ami-0ab1"}},
		"longer": {strings.Repeat("k", 257), map[string]string{
			TagReuseKey: "sha256:a5de0e3c93b4322bf1d2e6cc13119219d665142374de7f2b06bae237759c73e2", TagBase: "ami-0ab1",
		}},
	} {
		options := Options{ReuseKey: test.key}
		if diff := cmp.Diff(test.want, options.reuseTags("ami-0ab1")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReuseKeyIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		key   string
		local bool
		says  string
	}{
		"of a local base":          {"hello", true, "reuse_key is given with source_image"},
		"with a control character": {"hello\n", false, `reuse_key has the control character '\n'`},
	} {
		options := Options{AmiName: "hello", ReuseKey: test.key}
		errs := options.Prepare(Source{Architecture: "x86_64", Local: test.local})
		if len(errs) == 0 || !strings.Contains(errs[0].Error(), test.says) {
			t.Errorf("%s: errors %v", name, errs)
		}
	}
}
