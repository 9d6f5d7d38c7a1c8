package guest_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
	"github.com/immutable-server/packer-plugin-immutable/internal/guest/guesttest"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
)

func TestQuoteGivesAShellTheSameArguments(t *testing.T) {
	argv := []string{"printf", `%s\0`, "plain", "", "two words", "it's", `"$HOME"`, "`id`", "a\nb", "*", "~", "-x", "é", "a=b", "!", "\\"}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", guest.Quote(argv...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if diff := cmp.Diff(argv[2:], got); diff != "" {
		t.Errorf("the shell got other arguments from %s:\n%s", guest.Quote(argv...), diff)
	}
}

func TestOutputNamesTheCommandAndItsLastLines(t *testing.T) {
	m := &guesttest.Machine{Answers: map[string]guest.Result{
		"systemctl": {Status: 5, Stdout: "on stdout", Stderr: strings.Repeat("noise\n", 50) + "Unit not found.\n"},
	}}
	_, err := guest.Output(t.Context(), m, "systemctl", "enable", "x")
	if err == nil || !strings.HasPrefix(err.Error(), "systemctl ended with status 5: noise") || !strings.HasSuffix(err.Error(), "Unit not found.") {
		t.Errorf("Output gave %v", err)
	}
	if strings.Count(err.Error(), "\n") > 20 {
		t.Errorf("the error has %d lines", strings.Count(err.Error(), "\n"))
	}
}

func TestSurvey(t *testing.T) {
	for name, test := range map[string]struct {
		out  string
		want guest.System
	}{
		"Amazon Linux 2023": {
			"NAME=\"Amazon Linux\"\nID=\"amzn\"\nVERSION_ID=\"2023\"\nPRETTY_NAME=\"Amazon Linux 2023.6.20250107\"\n_ARCH=aarch64\n_MANAGER=dnf\n_BOOTED=1\n",
			guest.System{ID: "amzn", VersionID: "2023", Name: "Amazon Linux 2023.6.20250107", Arch: "aarch64", Manager: guest.DNF, Booted: true},
		},
		"quotes": {
			"# comment\nID=amzn\nVERSION_ID='2'\nPRETTY_NAME=\"a \\\"b\\\" \\$c\"\n_ARCH=x86_64\n_MANAGER=yum\n",
			guest.System{ID: "amzn", VersionID: "2", Name: `a "b" $c`, Arch: "x86_64", Manager: guest.Yum},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &guesttest.Machine{Answers: map[string]guest.Result{"sh -c": {Stdout: test.out}}}
			got, err := guest.Survey(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSurveyOfAMachineWithoutPackageManager(t *testing.T) {
	m := &guesttest.Machine{Answers: map[string]guest.Result{"sh -c": {Stdout: "ID=alpine\n_ARCH=x86_64\n"}}}
	if _, err := guest.Survey(t.Context(), m); err == nil || !strings.Contains(err.Error(), "neither dnf nor yum") {
		t.Errorf("Survey gave %v", err)
	}
}

func TestInstalledReadsRpm(t *testing.T) {
	m := &guesttest.Machine{Answers: map[string]guest.Result{"rpm -qa": {Stdout: "" +
		"gpg-pubkey\t(none)\td832c631\t6515c85e\t(none)\n" +
		"vim\t2\t9.0\t1.amzn2023\tx86_64\n" +
		"hello\t(none)\t1.0\t1\tnoarch\n"}}}
	got, err := guest.Installed(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	want := []record.Package{
		{Name: "vim", Epoch: 2, Version: "9.0", Release: "1.amzn2023", Arch: "x86_64"},
		{Name: "hello", Version: "1.0", Release: "1", Arch: "noarch"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOrigins(t *testing.T) {
	vim := record.Package{Name: "vim-common", Epoch: 2, Version: "9.0", Release: "1.amzn2", Arch: "x86_64"}
	hello := record.Package{Name: "hello", Version: "1.0", Release: "1", Arch: "noarch"}
	for name, test := range map[string]struct {
		manager guest.Manager
		command string
		out     string
	}{
		"dnf": {guest.DNF, "dnf", "vim-common\t2\t9.0\t1.amzn2\tx86_64\tamazonlinux\nhello\t0\t1.0\t1\tnoarch\t@commandline\n"},
		"yum": {guest.Yum, "sh -c", "v/0a1b-vim-common-9.0-1.amzn2-x86_64/from_repo\tamazonlinux\nh/0a1c-hello-1.0-1-noarch/from_repo\t/var/tmp/hello.rpm\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &guesttest.Machine{Answers: map[string]guest.Result{test.command: {Stdout: test.out}}}
			origin, err := guest.System{Manager: test.manager}.Origins(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if origin(vim) != "amazonlinux" || origin(hello) != "" {
				t.Errorf("origins are %q and %q", origin(vim), origin(hello))
			}
		})
	}
}

func TestEnable(t *testing.T) {
	for state, want := range map[string]string{
		"enabled": "", "alias": "", "indirect": "",
		"static": "no [Install] section",
		"masked": `says that it is "masked"`,
	} {
		m := &guesttest.Machine{Answers: map[string]guest.Result{"systemctl is-enabled": {Stdout: state + "\n"}}}
		err := guest.Enable(t.Context(), m, "hello.service")
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("a unit that is %s: %v", state, err)
		}
	}
	missing := &guesttest.Machine{Answers: map[string]guest.Result{"systemctl enable": {Status: 1, Stderr: "Unit file hello.service does not exist."}}}
	if err := guest.Enable(t.Context(), missing, "hello.service"); err == nil || !strings.Contains(err.Error(), "enable hello.service: systemctl ended with status 1: Unit file") {
		t.Errorf("a unit that is missing: %v", err)
	}
}

func TestActive(t *testing.T) {
	for name, test := range map[string]struct{ show, want string }{
		"running":        {"Type=simple\nActiveState=active\nSubState=running\nResult=success\n", ""},
		"oneshot, done":  {"Type=oneshot\nActiveState=inactive\nSubState=dead\nResult=success\n", ""},
		"oneshot failed": {"Type=oneshot\nActiveState=failed\nSubState=failed\nResult=exit-code\n", "is failed"},
		"ended":          {"Type=simple\nActiveState=inactive\nSubState=dead\nResult=success\n", "is inactive"},
		"restarting":     {"Type=simple\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\n", "is activating (auto-restart, result exit-code)"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &guesttest.Machine{Answers: map[string]guest.Result{
				"systemctl show": {Stdout: test.show},
				"journalctl":     {Stdout: "bind: address already in use\n"},
			}}
			err := guest.Active(t.Context(), m, "hello.service")
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "already in use")):
				t.Errorf("Active gave %v", err)
			}
		})
	}
}

func TestIsUnitName(t *testing.T) {
	for name, want := range map[string]bool{
		"hello.service": true, "getty@tty1.service": true, `dev-disk-by\x2dlabel.swap`: true,
		"": false, "-f": false, "a b": false, "a;b": false, "../x": false,
	} {
		if guest.IsUnitName(name) != want {
			t.Errorf("IsUnitName(%q) = %v", name, !want)
		}
	}
}
