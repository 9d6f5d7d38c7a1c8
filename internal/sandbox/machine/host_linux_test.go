package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
)

// loginKey is the public half of a key that nobody has.
const loginKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBase ops"

// report is user data that publishes what the machine knows of itself on port 8080.
const report = `#!/bin/sh
set -eu
mkdir -p /srv
echo "$0" >>/srv/runs
cp /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /home/ec2-user/.ssh/authorized_keys /srv/
hostname >/srv/hostname
sudo -u ec2-user sudo -n id -un >/srv/sudo
chmod -R a+rX /srv
cat >/etc/systemd/system/web.service <<'END'
[Service]
ExecStart=python3 -m http.server --directory /srv 8080
[Install]
WantedBy=multi-user.target
END
systemctl enable --now web.service
`

var network = netip.MustParsePrefix("172.31.0.0/16")

func newHost(t *testing.T) Host {
	t.Helper()
	host, err := New(network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	return host
}

// copyBase returns a copy of the base disk that a test may write to.
func copyBase(t *testing.T) string {
	t.Helper()
	base, disk := basedisk.Path(t), filepath.Join(t.TempDir(), "root.raw")
	if output, err := exec.CommandContext(t.Context(), "cp", "--sparse=always", "--reflink=auto", base, disk).CombinedOutput(); err != nil {
		t.Fatalf("copy the base disk: %v: %s", err, output)
	}
	return disk
}

// console keeps what an instance prints.
type console struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// specOf describes instance number n, which reports about itself.
func specOf(n int, disk string, console io.Writer) Spec {
	id := fmt.Sprintf("i-%017x", n)
	hostname := fmt.Sprintf("ip-172-31-0-%d.eu-west-1.compute.internal", n)
	return Spec{
		ID:       id,
		Hostname: hostname,
		Disk:     disk,
		Address:  netip.AddrFrom4([4]byte{172, 31, 0, byte(n)}),
		UserData: []byte(report),
		Metadata: Tree(map[string]string{
			"meta-data/instance-id":                   id,
			"meta-data/local-hostname":                hostname,
			"meta-data/public-keys/0=ops/openssh-key": loginKey,
		}),
		Console: console,
	}
}

func launch(t *testing.T, host Host, spec Spec) Machine {
	t.Helper()
	machine, err := host.Launch(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return machine
}

// get reads a file of an instance's report, waiting for the instance to have booted.
func get(t *testing.T, host Host, spec Spec, file string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: host.Dial, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:8080/%s", spec.Address, file), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := client.Do(request); err == nil {
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err == nil && response.StatusCode == http.StatusOK {
				return strings.TrimSpace(string(body))
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("instance %s does not serve %s; its console:\n%s", spec.ID, file, spec.Console)
		}
	}
}

// waitFor waits for a condition that comes about by itself.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !met(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// loopsOf lists the loop devices that hold a disk.
func loopsOf(t *testing.T, disk string) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var loops []string
	for _, file := range files {
		if backing, err := os.ReadFile(file); err == nil && strings.Contains(string(backing), disk) {
			loops = append(loops, file)
		}
	}
	return loops
}

func interfaces(t *testing.T) map[string]bool {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, link := range list {
		names[link.Name] = true
	}
	return names
}

func TestInstancesAreMachinesOfTheirOwn(t *testing.T) {
	first, second := copyBase(t), copyBase(t)
	before := interfaces(t)
	host := newHost(t)
	one, two := specOf(10, first, new(console)), specOf(11, second, new(console))
	launch(t, host, one)
	launch(t, host, two)

	for _, spec := range []Spec{one, two} {
		for file, want := range map[string]string{
			"hostname":        spec.Hostname,
			"authorized_keys": loginKey,
			"sudo":            "root",
			"runs":            "/var/lib/cloud/instances/" + spec.ID + "/scripts/part-001",
		} {
			if got := get(t, host, spec, file); got != want {
				t.Errorf("%s of %s is %q, want %q", file, spec.ID, got, want)
			}
		}
	}
	for _, file := range []string{"machine-id", "ssh_host_ed25519_key.pub"} {
		if a, b := get(t, host, one, file), get(t, host, two, file); a == b || a == "" {
			t.Errorf("both instances have the same %s: %q", file, a)
		}
	}
	if after := interfaces(t); len(after) > len(before) {
		t.Errorf("interfaces appeared outside the sandbox: %v, before %v", after, before)
	}
	for _, spec := range []Spec{one, two} {
		if text := spec.Console.(*console).String(); !strings.Contains(text, "Amazon Linux") {
			t.Errorf("the console of %s does not show it boot: %q", spec.ID, text)
		}
	}
}

func TestInstanceKeepsItsVolumeOverAStop(t *testing.T) {
	host := newHost(t)
	spec := specOf(10, copyBase(t), new(console))
	machine := launch(t, host, spec)
	id := get(t, host, spec, "machine-id")
	if err := machine.Stop(t.Context()); err != nil {
		t.Fatalf("%v; its console:\n%s", err, spec.Console)
	}
	if loops := loopsOf(t, spec.Disk); len(loops) > 0 {
		t.Errorf("after the stop the volume is still in use: %v", loops)
	}

	launch(t, host, spec)
	if got := get(t, host, spec, "machine-id"); got != id {
		t.Errorf("after the start its machine-id is %s, before it was %s", got, id)
	}
	if runs := get(t, host, spec, "runs"); strings.Contains(runs, "\n") {
		t.Errorf("user data ran more than once:\n%s", runs)
	}
}

func TestInstanceThatRebootsItselfComesBack(t *testing.T) {
	host := newHost(t)
	spec := specOf(10, copyBase(t), new(console))
	const count = "[Service]\nExecStartPre=/bin/sh -c 'echo boot >>/srv/boots'\n"
	spec.UserData = []byte(strings.Replace(report, "[Service]\n", count, 1) + "systemctl reboot\n")
	launch(t, host, spec)
	waitFor(t, "it booted twice", func() bool { return get(t, host, spec, "boots") == "boot\nboot" })
}

func TestInstanceThatIsSlowToStopIsKilled(t *testing.T) {
	host := newHost(t)
	spec := specOf(10, copyBase(t), new(console))
	machine := launch(t, host, spec)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := machine.Stop(ctx); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Stop says %v, want that the instance was killed", err)
	}
	if loops := loopsOf(t, spec.Disk); len(loops) > 0 {
		t.Errorf("its volume is still in use: %v", loops)
	}
}

func TestInstanceThatPowersItselfOffIsDone(t *testing.T) {
	host := newHost(t)
	spec := specOf(10, copyBase(t), new(console))
	spec.UserData = []byte("#!/bin/sh\nexec systemctl poweroff\n")
	machine := launch(t, host, spec)
	select {
	case <-machine.Done():
	case <-time.After(time.Minute):
		t.Fatalf("it still runs; its console:\n%s", spec.Console)
	}
	if loops := loopsOf(t, spec.Disk); len(loops) > 0 {
		t.Errorf("its volume is still in use: %v", loops)
	}
}

func TestLaunchRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	host := newHost(t)
	for _, test := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"an address outside the network", func(s *Spec) { s.Address = netip.MustParseAddr("10.0.0.1") }, "10.0.0.1"},
		{"the gateway's address", func(s *Spec) { s.Address = netip.MustParseAddr("172.31.0.1") }, "172.31.0.1"},
		{"a disk that is missing", func(s *Spec) { s.Disk = "/nowhere.raw" }, "/nowhere.raw"},
		{"a disk with no filesystem", func(*Spec) {}, "no XFS, ext4 or btrfs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := specOf(10, empty, nil)
			test.change(&spec)
			if _, err := host.Launch(t.Context(), spec); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestAddressIsFreeAgainWhenItsInstanceIsDone(t *testing.T) {
	host := newHost(t)
	spec := specOf(10, copyBase(t), nil)
	machine := launch(t, host, spec)
	if _, err := host.Launch(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second instance at %s: %v, want that the address is in use", spec.Address, err)
	}
	machine.Kill()
	<-machine.Done()
	launch(t, host, spec)
}

func TestClosedHostRunsNothing(t *testing.T) {
	spec := specOf(10, copyBase(t), nil)
	host, err := New(network)
	if err != nil {
		t.Fatal(err)
	}
	machine := launch(t, host, spec)
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-machine.Done():
	default:
		t.Error("after Close the instance still runs")
	}
	if _, err := host.Launch(t.Context(), spec); err == nil {
		t.Error("a closed host launched an instance")
	}
}
