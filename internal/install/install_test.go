package install

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
	"github.com/immutable-server/packer-plugin-immutable/internal/guest/guesttest"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/rpm/rpmtest"
)

func TestYumIsAskedAsItMustBe(t *testing.T) {
	file := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app"})
	m := &guesttest.Machine{Answers: map[string]guest.Result{
		"sh -c \nif [ -r /etc/os-release ]": {Stdout: "ID=amzn\nVERSION_ID=2\n_ARCH=x86_64\n_MANAGER=yum\n"},
		"mktemp":                            {Stdout: "/var/tmp/immutable-rpm.x\n"},
		"rpm -qa":                           {Stdout: "app\t(none)\t1.0\t1\tx86_64\n"},
		"rpm -q --qf":                       {Status: 1, Stderr: "error: incorrect format: unknown tag"},
	}}
	p := &Plan{
		Packages: []string{file, "nginx"}, Update: UpdateSecurity, ReleaseVersion: "2",
		RequireSignature: false, Verify: true, Clean: true,
	}
	if _, err := p.Run(t.Context(), m, new(quiet)); err != nil {
		t.Fatal(err)
	}
	var asked []string
	for _, line := range m.Ran {
		if strings.HasPrefix(line, "yum") {
			asked = append(asked, line)
		}
	}
	const always = "yum -y --setopt=skip_missing_names_on_install=0 --setopt=skip_missing_names_on_update=0 --releasever=2 "
	want := []string{
		always + "upgrade --security",
		always + "install /var/tmp/immutable-rpm.x/app-1.0-1.x86_64.rpm nginx",
		always + "clean all",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

func TestScriptletFailuresAreRecognised(t *testing.T) {
	for line, want := range map[string]bool{
		"warning: %post(app-1.0-1.x86_64) scriptlet failed, exit status 1":         true,
		"error: %prein(app-1.0-1.x86_64) scriptlet failed, signal 9":               true,
		"warning: %triggerin(glibc-2.34) scriptlet failed, exit status 127":        true,
		"Error in POSTIN scriptlet in rpm package app":                             true,
		"Non-fatal POSTIN scriptlet failure in rpm package app-1.0-1.x86_64":       true,
		"  Running scriptlet: app-1.0-1.x86_64                               1/1 ": false,
		"  app-scriptlets-failed.noarch 0:1-1":                                     false,
	} {
		if scriptletFailed.MatchString(line) != want {
			t.Errorf("%q: %v", line, !want)
		}
	}
}

func TestDifferencesLeavesOutConfiguration(t *testing.T) {
	out := "S.5....T.  c /etc/app.conf\n.......T.  g /var/run/app\nmissing   c /etc/gone.conf\nmissing     /usr/bin/app\n..5....T.    /usr/lib/c file\nUnsatisfied dependencies for app-1.0:\n\n"
	want := []string{"missing   c /etc/gone.conf", "missing     /usr/bin/app", "..5....T.    /usr/lib/c file", "Unsatisfied dependencies for app-1.0:"}
	if diff := cmp.Diff(want, differences(out)); diff != "" {
		t.Error(diff)
	}
}

func TestNamesInAllTheirForms(t *testing.T) {
	p := record.Package{Name: "nginx", Epoch: 1, Version: "1.24.0", Release: "1.amzn2023", Arch: "x86_64"}
	for entry, want := range map[string]bool{
		"nginx": true, "nginx.x86_64": true, "nginx-1.24.0": true, "nginx-1:1.24.0-1.amzn2023.x86_64": true, "ngin?": true, "nginx-1.24*": true,
		"nginx-core": false, "nginx.aarch64": false, "ng": false,
	} {
		if (source{kind: name, entry: entry}).names(p) != want {
			t.Errorf("%q: %v", entry, !want)
		}
	}
}

func TestRepositoryFile(t *testing.T) {
	got := Repository{
		ID: "internal", BaseURL: []string{"https://a/$basearch", "https://b"}, GPGKey: []string{"https://a/key"},
		GPGCheck: true, Enabled: true, Priority: 5,
	}.file()
	want := "[internal]\nname=internal\nbaseurl=https://a/$basearch\n    https://b\nenabled=1\ngpgcheck=1\ngpgkey=https://a/key\npriority=5\nskip_if_unavailable=0\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
