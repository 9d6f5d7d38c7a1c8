package command

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSandboxSaysWhereItListensAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready := filepath.Join(t.TempDir(), "ready")
	var stdout, stderr bytes.Buffer
	done := make(chan int)
	go func() {
		done <- Sandbox(ctx, []string{"--listen", "127.0.0.1:0", "--machines", "none", "--ready-file", ready}, &stdout, &stderr)
	}()
	var url []byte
	for deadline := time.Now().Add(time.Minute); len(url) == 0; time.Sleep(time.Millisecond) {
		url, _ = os.ReadFile(ready)
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", stderr.String())
		}
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit status %d: %s", code, stderr.String())
	}
	if want := "sandbox ready on " + string(url); !strings.HasPrefix(stdout.String(), want) || !strings.Contains(stdout.String(), "AWS_ENDPOINT_URL="+strings.TrimSpace(string(url))) {
		t.Errorf("printed %q, want it to begin with %q and to give the environment", stdout.String(), want)
	}
}

func TestSandboxRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--colour", "red"}, 2, "-colour"},
		{[]string{"now"}, 2, "now"},
		{[]string{"--listen", "192.0.2.1:1"}, 1, "this host only"},
		{[]string{"--help"}, 0, "-base-disk"},
		{[]string{"--base-disk", ""}, 2, "--base-disk is empty"},
		{[]string{"--scenario", "nowhere.hcl"}, 2, "nowhere.hcl"},
		{[]string{"--fault", "ec2:*,kind=fire"}, 2, `kind "fire" is not known`},
		{[]string{"--machines", "none", "--listen", "127.0.0.1:0", "--fault", "ec2:Fly,kind=error"}, 1, "no operation of the sandbox is called ec2:Fly"},
		{[]string{"--enforce-policy", "AKIA=absent.json"}, 2, "absent.json"},
	} {
		var stdout, stderr bytes.Buffer
		if code := Sandbox(t.Context(), test.args, &stdout, &stderr); code != test.code || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%v: exit status %d, want %d, saying %q; it says %s", test.args, code, test.code, test.want, stderr.String())
		}
	}
}

func TestRatesAreLimitedInTheTypicalProfile(t *testing.T) {
	for _, test := range []struct {
		args []string
		want bool
	}{
		{nil, false},
		{[]string{"--quotas"}, true},
		{[]string{"--profile", "typical"}, true},
		{[]string{"--profile", "typical", "--quotas=false"}, false},
	} {
		flags, _ := parseSandboxFlags(test.args, io.Discard)
		if flags == nil || flags.quotas != test.want {
			t.Errorf("%v gives %+v, want quotas %t", test.args, flags, test.want)
		}
	}
}
