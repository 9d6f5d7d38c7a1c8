package ami

import (
	"os"
	"path/filepath"
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
		if err := options.ReadReuseFiles(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, options.reuseTags("ami-0ab1")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReuseFilesCountByTheirContent(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func(o Options) string {
		if err := o.ReadReuseFiles(); err != nil {
			t.Fatal(err)
		}
		return o.reuseTags("")[TagReuseKey]
	}
	of := key(Options{ReuseFiles: []string{file("a"), file("b")}})
	if again := key(Options{ReuseFiles: []string{file("a"), file("b")}}); again != of || len(of) != 71 {
		t.Errorf("the same files give %q and %q", of, again)
	}
	for name, o := range map[string]Options{
		"other content":  {ReuseFiles: []string{file("a"), file("c")}},
		"other order":    {ReuseFiles: []string{file("b"), file("a")}},
		"fewer files":    {ReuseFiles: []string{file("a")}},
		"content joined": {ReuseFiles: []string{file("ab")}},
		"with a key":     {ReuseKey: "a", ReuseFiles: []string{file("a"), file("b")}},
	} {
		if other := key(o); other == of {
			t.Errorf("%s give the same key", name)
		}
	}
	missing := Options{ReuseFiles: []string{filepath.Join(t.TempDir(), "none")}}
	if err := missing.ReadReuseFiles(); err == nil || !strings.Contains(err.Error(), "reuse_files: open ") {
		t.Errorf("a file that is not there gives %v", err)
	}
}

func TestReuseKeyIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		key   string
		local bool
		says  string
	}{
		"of a local base":          {"hello", true, "reuse_key or reuse_files is given with source_image"},
		"with a control character": {"hello\n", false, `reuse_key has the control character '\n'`},
	} {
		options := Options{AmiName: "hello", ReuseKey: test.key}
		errs := options.Prepare(Source{Architecture: "x86_64", Local: test.local})
		if len(errs) == 0 || !strings.Contains(errs[0].Error(), test.says) {
			t.Errorf("%s: errors %v", name, errs)
		}
	}
}
