package seal

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/bakery"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

func sealed(ctx context.Context, t *testing.T, m packersdk.Communicator, keep ...string) {
	t.Helper()
	p := new(Provisioner)
	if err := p.Prepare(map[string]any{"keep": keep}); err != nil {
		t.Fatal(err)
	}
	if err := p.Provision(ctx, new(bakery.Ui), m, nil); err != nil {
		t.Fatal(err)
	}
}

// traces are left by a machine that has lived.
const traces = `
set -e
ssh-keygen -q -A
mkdir -p /root/.ssh /home/ec2-user/.ssh /var/lib/cloud/instances/i-1/sem /var/lib/cloud/scripts/per-boot /var/lib/dhclient /var/lib/systemd \
  /var/lib/dnf /var/lib/NetworkManager /var/log/audit /var/log/amazon/ssm /var/log/sa /var/log/journal/0123 /var/cache/dnf/x /root/.cache/pip /etc/sudoers.d
for f in /root/.ssh/authorized_keys /home/ec2-user/.ssh/authorized_keys /root/.bash_history /home/ec2-user/.python_history /root/.ssh/known_hosts \
  /var/lib/cloud/instances/i-1/user-data.txt /etc/sudoers.d/90-cloud-init-users /etc/locale.conf /etc/hostname /var/lib/dhclient/dhclient.leases \
  /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/dnf/history.sqlite /var/lib/NetworkManager/secret_key /etc/.updated /var/.updated \
  /var/log/messages /var/log/messages-20260101 /var/log/audit/audit.log /var/log/audit/audit.log.1 /var/log/cloud-init.log /var/log/amazon/ssm/ssm.log /var/log/app.log.2.gz \
  /var/log/sa/sa01 /var/log/journal/0123/system.journal /var/cache/dnf/x/repo.solv /root/.cache/pip/x /var/tmp/leftover /var/tmp/.hidden /etc/aliases.db; do
  echo trace > $f
done
mkdir -p /var/tmp/dir/dir
ln -sf /etc/os-release /root/.lesshst
echo '#!/bin/sh' > /var/lib/cloud/scripts/per-boot/own
usermod -p '$6$salt$hash' root
chmod 640 /var/log/messages
if [ ! -s /etc/machine-id ]; then echo 0123456789abcdef0123456789abcdef > /etc/machine-id; fi
mkdir -p /var/lib/dbus
rm -f /var/lib/dbus/machine-id
cp /etc/machine-id /var/lib/dbus/machine-id
`

// gone and empty are checked in the finished image.
const gone = `ls -d /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /root/.*_history /home/*/.*_history /root/.lesshst /root/.ssh/known_hosts \
  /var/lib/cloud/instances /etc/sudoers.d/90-cloud-init-users /etc/locale.conf /etc/hostname /var/lib/dhclient/* /var/lib/systemd/random-seed \
  /var/lib/systemd/credential.secret /var/lib/dnf/history* /var/lib/NetworkManager/secret_key /etc/.updated /var/.updated /etc/shadow- /var/lib/dbus/machine-id \
  /var/log/messages-20260101 /var/log/audit/audit.log.1 /var/log/app.log.2.gz /var/log/sa/* /var/log/journal/* /var/cache/dnf/* /root/.cache \
  /var/tmp/* /var/tmp/.hidden /etc/aliases.db /etc/*.before-the-bake 2>/dev/null; true`

const full = `find /etc/machine-id /var/log -type f -size +0`

func TestSealRemovesTheTraces(t *testing.T) {
	for _, kind := range bake.Kinds {
		t.Run(kind, func(t *testing.T) {
			disk := bakery.Disk(t)
			mounted(t, disk, "mkdir -p root/tmp/dir; echo trace | tee root/tmp/leftover root/tmp/.hidden >root/tmp/dir/leftover")
			bakery.Bake(t, disk, kind, func(ctx context.Context, m *bakery.Machine) {
				m.Sh(traces)
				sealed(ctx, t, m)
				if left := m.Sh("grep -E ' /(tmp|var/tmp)/' /proc/self/mounts || true"); left != "" {
					t.Errorf("left mounted:\n%s", left)
				}
			})
			if left := mounted(t, disk, "ls -A root/tmp root/var/tmp"); left != "root/tmp:\n\nroot/var/tmp:\n" {
				t.Errorf("left in the directories for temporary files:\n%s", left)
			}
			bakery.Bake(t, disk, bake.Chroot, func(_ context.Context, m *bakery.Machine) {
				if left := m.Sh(gone); left != "" {
					t.Errorf("left:\n%s", left)
				}
				if left := m.Sh(full); left != "" {
					t.Errorf("not empty:\n%s", left)
				}
				if got := m.Sh("stat -c '%a %U %s' /var/log/messages /etc/machine-id; cat /var/lib/cloud/scripts/per-boot/own; passwd -S root | cut -d' ' -f2"); got != "640 root 0\n444 root 0\n#!/bin/sh\nL" {
					t.Errorf("in the image:\n%s", got)
				}
				if got := m.Sh("test -s /etc/os-release && echo there"); got != "there" {
					t.Error("a file that a link in a home directory names was removed")
				}
			})
		})
	}
}

// tree prints everything that the image's filesystem has, times included.
const tree = `find / -xdev \( -path /dev -o -path /proc -o -path /sys -o -path /run -o -path /tmp \) -prune -o -printf '%p %y %m %U:%G %s %T@ %l\n' | sort
find / -xdev \( -path /dev -o -path /proc -o -path /sys -o -path /run -o -path /tmp \) -prune -o -type f -print0 | sort -z | xargs -0 cksum`

func TestSealingTwiceIsAsOnce(t *testing.T) {
	for _, kind := range bake.Kinds {
		t.Run(kind, func(t *testing.T) {
			bakery.Bake(t, bakery.Disk(t), kind, func(ctx context.Context, m *bakery.Machine) {
				m.Sh(traces)
				sealed(ctx, t, m)
				once := strings.Split(m.Sh(tree), "\n")
				sealed(ctx, t, m)
				if diff := cmp.Diff(once, strings.Split(m.Sh(tree), "\n")); diff != "" {
					t.Errorf("sealing again changed:\n%s", diff)
				}
			})
		})
	}
}

// The user's own way in is among what is cleaned.
func TestSealWorksForAUserWithSudo(t *testing.T) {
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		m.Sh(traces)
		user := m.User("baker", "/etc/sudoers.d/90-cloud-init-users")
		sealed(ctx, t, user)
		if left := m.Sh(gone); left != "" {
			t.Errorf("left:\n%s", left)
		}
	})
}

// unprivileged is a machine whose root may not mount.
type unprivileged struct{ *bakery.Machine }

// Start implements packersdk.Communicator.
func (u unprivileged) Start(ctx context.Context, cmd *packersdk.RemoteCmd) error {
	cmd.Command = guest.Quote("setpriv", "--bounding-set", "-sys_admin", "--", "sh", "-c", cmd.Command)
	return u.Machine.Start(ctx, cmd)
}

func TestSealSaysWhatItCanNotReach(t *testing.T) {
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		p := new(Provisioner)
		if err := p.Prepare(nil); err != nil {
			t.Fatal(err)
		}
		err := p.Provision(ctx, new(bakery.Ui), unprivileged{m}, nil)
		if err == nil || !strings.Contains(err.Error(), "what the image has in /tmp") {
			t.Errorf("Provision gave %v", err)
		}
		m.Sh("umount /tmp")
		if err := p.Provision(ctx, new(bakery.Ui), unprivileged{m}, nil); err != nil {
			t.Errorf("with nothing mounted on /tmp: %v", err)
		}
	})
}

func TestKeepKeeps(t *testing.T) {
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		m.Sh(traces)
		sealed(ctx, t, m, "locale", "journal", "caches")
		if got := m.Sh("cat /etc/locale.conf /var/log/journal/0123/system.journal /var/cache/dnf/x/repo.solv; ls -d /etc/hostname 2>/dev/null || true"); got != "trace\ntrace\ntrace" {
			t.Errorf("in the machine:\n%s", got)
		}
	})
}

func TestResolvConfIsRemovedOnlyIfItWasGenerated(t *testing.T) {
	for content, want := range map[string]string{
		"nameserver 10.0.0.2\n": "nameserver 10.0.0.2",
		"; generated by /usr/sbin/dhclient-script\nnameserver 10.0.0.2\n": "none",
	} {
		disk := bakery.Disk(t)
		write := func(kind string) {
			bakery.Bake(t, disk, kind, func(_ context.Context, m *bakery.Machine) {
				m.Sh("rm -f /etc/resolv.conf")
				m.Put("/etc/resolv.conf", content)
			})
		}
		write(bake.Chroot)
		bakery.Bake(t, disk, bake.Chroot, func(ctx context.Context, m *bakery.Machine) { sealed(ctx, t, m) })
		if got := strings.TrimSpace(file(t, disk, "etc/resolv.conf")); got != want {
			t.Errorf("an image with %q has %q once it is sealed", content, got)
		}
	}
}

// file reads a file of a disk that nobody bakes, "none" if there is none.
func file(t *testing.T, disk, path string) string {
	t.Helper()
	return mounted(t, disk, `cat "root/$1" 2>/dev/null || echo none`, path)
}

// mounted runs a script with the disk's root mounted as root in the current
// directory, in namespaces that end with it.
func mounted(t *testing.T, disk, script string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{
		"--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
		"sh", "-euc", "mount -o loop,offset=2097152,nouuid " + disk + " root\n" + script, "sh",
	}, args...)
	cmd := exec.CommandContext(t.Context(), "unshare", argv...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// boot starts the disk as an instance without a network, and prints what it
// made for itself.
const boot = `
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
systemd-nspawn --quiet --register=no --keep-unit --private-network --directory=root --boot --console=pipe \
  -- systemd.mask=first-boot.service systemd.mask=first-boot-user-data.service >console 2>&1 </dev/null &
for i in $(seq 600); do
  if [ -s root/etc/machine-id ] && [ -s root/etc/ssh/ssh_host_ed25519_key.pub ]; then
    cat root/etc/machine-id root/etc/ssh/ssh_host_ed25519_key.pub
    exit 0
  fi
  sleep 0.2
done
cat console
exit 1
`

func TestInstancesOfASealedImageDiffer(t *testing.T) {
	disk := bakery.Disk(t)
	bakery.Bake(t, disk, bake.Container, func(ctx context.Context, m *bakery.Machine) {
		m.Sh(traces)
		sealed(ctx, t, m)
	})
	var machineIDs, hostKeys []string
	for _, name := range []string{"one", "two"} {
		instance := filepath.Join(t.TempDir(), name)
		bakery.Copy(t, instance, disk)
		made := strings.SplitN(mounted(t, instance, boot), "\n", 2)
		machineIDs, hostKeys = append(machineIDs, made[0]), append(hostKeys, made[1])
	}
	if machineIDs[0] == machineIDs[1] || len(machineIDs[0]) != 32 {
		t.Errorf("machine IDs are %q", machineIDs)
	}
	if hostKeys[0] == hostKeys[1] || !strings.HasPrefix(hostKeys[0], "ssh-ed25519 ") {
		t.Errorf("host keys are %q", hostKeys)
	}
}

func TestPrepareRefusesToKeepWhatIsNoItem(t *testing.T) {
	err := new(Provisioner).Prepare(map[string]any{"keep": []string{"host-keys"}})
	if err == nil || !strings.Contains(err.Error(), `keep: "host-keys" is nothing that is cleaned`) {
		t.Errorf("Prepare gave %v", err)
	}
}
