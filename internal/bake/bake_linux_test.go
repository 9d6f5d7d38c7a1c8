package bake_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

func TestTheMachineIsTheImage(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		hostResolver, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			t.Fatal(err)
		}
		hostName, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}

		b, _ := onBase(t, kind)
		baked(t, b, func(m bake.Machine) {
			if got := sh(t, m, `. /etc/os-release; echo $ID $VERSION_ID; id -u; pwd; umask`); got != "amzn 2023\n0\n/root\n0022" {
				t.Errorf("system, user, directory and umask are %q", got)
			}
			if got := sh(t, m, "cat /etc/resolv.conf"); got != strings.TrimSpace(string(hostResolver)) {
				t.Errorf("names are resolved by %q, on the host by %q", got, hostResolver)
			}
			sh(t, m, fmt.Sprintf("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", %d))'", listener.Addr().(*net.TCPAddr).Port))
			sh(t, m, "echo for-null >/dev/null; head -c 4 /dev/urandom >/dev/null; [ -c /dev/ptmx ]; [ -d /proc/self/fd ]; python3 -c 'import pty; pty.openpty()'; : >/dev/shm/x; : >/tmp/x; : >/run/x")
			if got := sh(t, m, "ls /dev | grep -E '^(sd|vd|xvd|nvme|loop|mem|kmsg)' || :"); got != "" {
				t.Errorf("the machine sees the host's devices %q", got)
			}
			if got := sh(t, m, "echo 1 2>/dev/null >/proc/sys/vm/drop_caches && echo written || echo refused"); got != "refused" {
				t.Errorf("a write to the host's /proc/sys was %s", got)
			}
			sh(t, m, "hostname changed-in-the-bake")
			if got := sh(t, m, "env | grep LEAK || :"); got != "" {
				t.Errorf("the host's environment shows inside: %s", got)
			}
		})
		if now, _ := os.Hostname(); now != hostName {
			t.Errorf("the host is now called %q", now)
		}
	})
}

func TestRunGivesStatusAndStreams(t *testing.T) {
	t.Parallel()
	b, _ := onSmall(t)
	baked(t, b, func(m bake.Machine) {
		var out, complaint bytes.Buffer
		status, err := m.Run(t.Context(), bake.Command{
			Argv:   []string{"sh", "-c", `cat; echo "$A" >&2; exit 7`, "sh"},
			Env:    []string{"A=it's \"quoted\" $HOME\n`id`"},
			Stdin:  strings.NewReader("typed"),
			Stdout: &out, Stderr: &complaint,
		})
		if err != nil || status != 7 || out.String() != "typed" || complaint.String() != "it's \"quoted\" $HOME\n`id`\n" {
			t.Errorf("status %d, %v, stdout %q, stderr %q", status, err, out.String(), complaint.String())
		}
		if status, err := m.Run(t.Context(), bake.Command{Argv: []string{"sh", "-c", "kill -9 $$"}}); err != nil || status != 137 {
			t.Errorf("a killed command has status %d, %v", status, err)
		}
		if status, err := m.Run(t.Context(), bake.Command{Argv: []string{"no-such-program"}}); err != nil || status != 127 {
			t.Errorf("a program that is not there has status %d, %v", status, err)
		}
	})
}

// failing is a reader, or writer, that fails after a while.
type failing struct{ left int }

var errBroken = errors.New("the line is broken")

func (f *failing) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, errBroken
	}
	n := min(len(b), f.left)
	f.left -= n
	return n, nil
}

func (f *failing) Write(b []byte) (int, error) {
	if f.left < len(b) {
		return 0, errBroken
	}
	f.left -= len(b)
	return len(b), nil
}

func TestABrokenStreamIsNeverTakenForItsEnd(t *testing.T) {
	t.Parallel()
	b, _ := onSmall(t)
	baked(t, b, func(m bake.Machine) {
		if _, err := m.Run(t.Context(), bake.Command{Argv: []string{"sh", "-c", "cat >/srv/cut-off"}, Stdin: &failing{1 << 20}}); !errors.Is(err, errBroken) {
			t.Errorf("with a broken input, Run() = %v", err)
		}
		if _, err := m.Run(t.Context(), bake.Command{Argv: []string{"dd", "if=/dev/zero", "bs=1M", "count=4"}, Stdout: &failing{1 << 20}}); !errors.Is(err, errBroken) {
			t.Errorf("with a broken output, Run() = %v", err)
		}
	})
}

func TestACancelledCommandIsKilledWithAllItsDescendants(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, _ := onBase(t, kind)
		baked(t, b, func(m bake.Machine) {
			reason := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			started := notifyingWriter{func() { cancel(reason) }}
			_, err := m.Run(ctx, bake.Command{
				Argv:   []string{"sh", "-c", "sleep 1234 & setsid sleep 1234 & echo started; wait"},
				Stdout: started,
			})
			if !errors.Is(err, reason) {
				t.Errorf("Run() = %v, want the context's cause", err)
			}
			if got := sh(t, m, "pgrep -x sleep || echo none"); got != "none" {
				t.Errorf("still running: %s", got)
			}
		})
	})
}

type notifyingWriter struct{ notify func() }

func (n notifyingWriter) Write(b []byte) (int, error) {
	n.notify()
	return len(b), nil
}

func TestWhatIsLeftRunningHoldsNothingUp(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string) {
		b, ui := onBase(t, kind)
		baked(t, b, func(m bake.Machine) {
			// It keeps its output, and a file on the disk, open, and does not end
			// when asked to.
			if got := sh(t, m, `(trap '' TERM; exec 3>>/opt/busy; exec sleep 4321) & echo started`); got != "started" {
				t.Errorf("the command said %q", got)
			}
			sh(t, m, "pgrep -x sleep")
		})
		if !strings.Contains(ui.String(), "had left running: sleep") {
			t.Errorf("the user was told %q", ui)
		}
	})
}

func TestADaemonThatKeepsWritingHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]string{"now and then": "sleep 0.1", "without a pause": ":"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := onSmall(t)
			baked(t, b, func(m bake.Machine) {
				// It gives up some day, so that a failure is no endless wait.
				got := sh(t, m, `(trap '' PIPE; while :; do echo noise; `+pause+`; done) 2>/dev/null & echo $! >/run/daemon
(sleep 60; kill $(cat /run/daemon)) >/dev/null 2>&1 & echo started`)
				if !strings.Contains(got, "started") {
					t.Error("what the command itself wrote was not carried")
				}
				sh(t, m, "kill -0 $(cat /run/daemon)")
			})
		})
	}
}

func TestASlowReceiverGetsAllThatACommandWrote(t *testing.T) {
	t.Parallel()
	b, _ := onSmall(t)
	baked(t, b, func(m bake.Machine) {
		var got int
		slow := countingWriter(func(n int) {
			got += n
			time.Sleep(1200 * time.Millisecond) // longer than a pipe is listened to in vain
		})
		if _, err := m.Run(t.Context(), bake.Command{Argv: []string{"dd", "if=/dev/zero", "bs=1k", "count=100"}, Stdout: slow}); err != nil || got != 100<<10 {
			t.Errorf("%d bytes came, %v", got, err)
		}
	})
}

type countingWriter func(n int)

func (c countingWriter) Write(b []byte) (int, error) {
	c(len(b))
	return len(b), nil
}

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Chroot)
	baked(t, b, func(m bake.Machine) {
		// Scripts that stop a daemon wait until it is gone, not only dead.
		sh(t, m, `(sleep 60 & echo $! >/run/orphan); kill -9 $(cat /run/orphan); while [ -d /proc/$(cat /run/orphan) ]; do sleep 0.01; done`)
	})
}

func TestAContainerMayShutItselfDown(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Container)
	baked(t, b, func(m bake.Machine) {
		sh(t, m, "echo last >/opt/last; systemctl poweroff")
	})
	if files := tree(t, b.Disk, rootStart, "nouuid,norecovery", "opt"); !strings.Contains(files, "./last f ") {
		t.Errorf("what was written before the end is not there:\n%s", files)
	}
}

func TestServicesDoNotStartInAChroot(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Chroot)
	baked(t, b, func(m bake.Machine) {
		sh(t, m, "systemctl start ssh.service && systemctl enable ssh.service")
		if got := sh(t, m, "pgrep -x sshd || echo none"); got != "none" {
			t.Errorf("a service was started: %s", got)
		}
	})
}

func TestServicesRunInAContainer(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Container)
	baked(t, b, func(m bake.Machine) {
		sh(t, m, `printf '[Service]\nExecStart=/bin/sleep 999\nExecStop=/bin/sh -c "echo stopped >/opt/stopped"\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/hello.service`)
		sh(t, m, "systemctl enable --now hello.service && systemctl is-active hello.service")
		if got := sh(t, m, "systemctl is-system-running"); got != "running" {
			t.Errorf("the system is %s; failed: %s", got, sh(t, m, "systemctl --failed"))
		}
		for _, unit := range []string{"ssh.service", "systemd-networkd.service", "first-boot.service", "cloud-init.service"} {
			if got := sh(t, m, "systemctl start "+unit+" 2>&1 || :"); !strings.Contains(got, "masked") {
				t.Errorf("start %s: %q, want it masked while baking", unit, got)
			}
		}
	})
	// The container was shut down in order, and what hides units was not left
	// in the image.
	files := tree(t, b.Disk, rootStart, "nouuid,norecovery", ".")
	for name, want := range map[string]bool{
		"./opt/stopped f ": true,
		"./etc/systemd/system/multi-user.target.wants/hello.service l ": true,
		"./etc/systemd/system/ssh.service l ":                           false,
	} {
		if strings.Contains(files, name) != want {
			t.Errorf("%s in the image: %v, want %v", name, !want, want)
		}
	}
}

func TestABakeOfNothingChangesNoFile(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Chroot)
	base := filepath.Join(filepath.Dir(b.Disk), "base.raw")
	copyFile(t, base, b.Disk)
	baked(t, b, func(bake.Machine) {})
	before, after := tree(t, base, rootStart, "nouuid,norecovery", "."), tree(t, b.Disk, rootStart, "nouuid,norecovery", ".")
	if before != after {
		t.Errorf("files differ:\n%s", difference(before, after))
	}
	changed := blocksChanged(t, base, b.Disk)
	t.Logf("blocks of 512 KiB that differ: %v", changed)
	// The superblock and what belongs to it, the log, and the inodes of /etc.
	if len(changed) > 12 {
		t.Errorf("%d blocks of 512 KiB differ", len(changed))
	}
}

func TestAContainerLeavesTheConfigurationAlone(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Container)
	before := tree(t, b.Disk, rootStart, "nouuid,norecovery", "etc")
	baked(t, b, func(m bake.Machine) {
		if id := sh(t, m, "cat /etc/machine-id"); len(id) != 32 {
			t.Errorf("while baking, the machine ID is %q", id)
		}
	})
	after := tree(t, b.Disk, rootStart, "nouuid,norecovery", "etc")
	// systemd notes when it last set the system up.
	if diff := difference(before, after); strings.Count(diff, "\n") > 4 || strings.Contains(diff, "machine-id") || strings.Contains(diff, "resolv") {
		t.Errorf("files of /etc differ:\n%s", diff)
	}
}

func TestTheResolverIsLentToEveryImage(t *testing.T) {
	for name, test := range map[string]struct {
		before string // how the image has it
		during string // what a provisioner does
		after  string // what the image has then
	}{
		"absent":                     {":", ":", "none"},
		"a file":                     {"echo own >/etc/resolv.conf", ":", "own"},
		"a link into /run":           {"ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf", ":", "link ../run/systemd/resolve/stub-resolv.conf"},
		"a link to nowhere":          {"ln -s /nowhere/resolv.conf /etc/resolv.conf", ":", "link /nowhere/resolv.conf"},
		"removed by a provisioner":   {"echo own >/etc/resolv.conf", "rm /etc/resolv.conf", "none"},
		"written by a provisioner":   {"echo own >/etc/resolv.conf", "echo new >/etc/resolv.conf", "new"},
		"replaced in a link's place": {"ln -s ../run/x /etc/resolv.conf", "rm /etc/resolv.conf; echo new >/etc/resolv.conf", "new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := onSmall(t)
			host, err := os.ReadFile("/etc/resolv.conf")
			if err != nil {
				t.Fatal(err)
			}
			baked(t, b, func(m bake.Machine) { sh(t, m, "rm -f /etc/resolv.conf; "+test.before) })
			baked(t, b, func(m bake.Machine) {
				if got := sh(t, m, "cat /etc/resolv.conf"); got != strings.TrimSpace(string(host)) {
					t.Errorf("while baking it is %q", got)
				}
				sh(t, m, test.during)
			})
			// The third bake only looks; what it is lent is put aside.
			baked(t, b, func(m bake.Machine) {
				const look = `f=/etc/resolv.conf; [ -e $f.before-the-bake ] || [ -L $f.before-the-bake ] && f=$f.before-the-bake
if [ -L $f ]; then echo "link $(readlink $f)"; elif [ $f != /etc/resolv.conf ]; then cat $f; else echo none; fi`
				if got := sh(t, m, look); got != test.after {
					t.Errorf("the image has %q, want %q", got, test.after)
				}
			})
		})
	}
}

func TestTheDiskIsGrown(t *testing.T) {
	t.Run("xfs in a partition", func(t *testing.T) {
		t.Parallel()
		b, _ := onBase(t, bake.Chroot)
		b.Size = 9 << 30
		grown(t, b, 8900)
	})
	t.Run("ext4 without a table", func(t *testing.T) {
		t.Parallel()
		b, _ := onSmall(t)
		b.Size = 256 << 20
		grown(t, b, 220)
	})
}

func grown(t *testing.T, b bake.Bake, atLeast int) {
	t.Helper()
	baked(t, b, func(m bake.Machine) {
		var mebibytes int
		if _, err := fmt.Sscan(sh(t, m, `set -- $(stat -f -c '%b %S' /); echo $(($1 * $2 >> 20))`), &mebibytes); err != nil || mebibytes < atLeast {
			t.Errorf("the root filesystem has %d MiB (%v), want at least %d", mebibytes, err, atLeast)
		}
	})
}

func TestRemovedDataIsNotInTheImage(t *testing.T) {
	remove := func(t *testing.T, b bake.Bake) {
		secret := strings.Repeat("a secret that was removed\n", 1000)
		baked(t, b, func(m bake.Machine) {
			if _, err := m.Run(t.Context(), bake.Command{Argv: []string{"sh", "-c", "cat >/srv/secret; sync"}, Stdin: strings.NewReader(secret)}); err != nil {
				t.Fatal(err)
			}
			sh(t, m, "rm /srv/secret")
		})
		f, err := os.Open(b.Disk)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for e, err := range disk.Extents(f) {
			if err != nil {
				t.Fatal(err)
			}
			content := make([]byte, e.Size)
			if _, err := f.ReadAt(content, e.Start); err != nil {
				t.Fatal(err)
			}
			if at := bytes.Index(content, []byte("a secret that was removed")); at >= 0 {
				t.Fatalf("what was removed is still on the disk, at byte %d", e.Start+int64(at))
			}
		}
	}
	t.Run("xfs", func(t *testing.T) {
		t.Parallel()
		b, _ := onBase(t, bake.Chroot)
		remove(t, b)
	})
	t.Run("ext4", func(t *testing.T) {
		t.Parallel()
		b, _ := onSmall(t)
		remove(t, b)
	})
}

func TestADisksErrors(t *testing.T) {
	if testing.Short() {
		t.Skip("baking needs root")
	}
	t.Run("no root partition", func(t *testing.T) {
		t.Parallel()
		b := bake.Bake{Disk: filepath.Join(t.TempDir(), "empty.raw"), Machine: bake.Chroot, Dir: t.TempDir(), Ui: new(lines)}
		if err := os.WriteFile(b.Disk, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, b, b.Disk, "no Linux root partition")
	})
	t.Run("a filesystem that is no root", func(t *testing.T) {
		t.Parallel()
		b, _ := onSmall(t)
		baked(t, b, func(m bake.Machine) { sh(t, m, "rm /etc/os-release") })
		wantError(t, b, b.Disk, "none of its filesystems, the whole disk (ext4), has an /etc/os-release")
	})
	for name, edit := range map[string][]string{
		"no directory to mount on": {"rmdir /run"},
		"a link to mount on":       {"rmdir /run", "symlink /run /etc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := onSmall(t)
			for _, request := range edit {
				if out, err := exec.CommandContext(t.Context(), "debugfs", "-w", "-R", request, b.Disk).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			wantError(t, b, "the image has no directory /run")
		})
	}
	t.Run("no disk", func(t *testing.T) {
		t.Parallel()
		wantError(t, bake.Bake{Disk: "/no/such/disk", Machine: bake.Chroot, Dir: t.TempDir(), Ui: new(lines)}, "/no/such/disk")
	})
}

func wantError(t *testing.T, b bake.Bake, parts ...string) {
	t.Helper()
	err := b.Run(t.Context(), func(context.Context, bake.Machine) error {
		t.Error("provisioned")
		return nil
	})
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Run() = %v, want an error with %q", err, part)
		}
	}
	nothingLeft(t, b)
}

func TestADamagedFilesystemIsAnError(t *testing.T) {
	t.Parallel()
	b, _ := onBase(t, bake.Chroot)
	err := b.Run(t.Context(), func(context.Context, bake.Machine) error {
		f, err := os.OpenFile(b.Disk, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		superblock := make([]byte, 512)
		if _, err := f.ReadAt(superblock, rootStart); err != nil {
			return err
		}
		group := int64(binary.BigEndian.Uint32(superblock[84:])) * int64(binary.BigEndian.Uint32(superblock[4:]))
		// The second group's own superblock, which nothing reads meanwhile.
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 512), rootStart+group); err != nil {
			return err
		}
		return f.Close()
	})
	if err == nil || !strings.Contains(err.Error(), "is not clean after the bake") {
		t.Errorf("Run() = %v", err)
	}
	nothingLeft(t, b)
}

func TestAFullLocalDiskIsNamed(t *testing.T) {
	t.Parallel()
	b, _ := onSmall(t)
	b.Dir = t.TempDir()
	if err := unix.Mount("tmpfs", b.Dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(b.Dir, 0); err != nil {
			t.Error(err)
		}
	}()
	image := b.Disk
	b.Disk = filepath.Join(b.Dir, "disk.raw")
	copyFile(t, b.Disk, image)
	err := b.Run(t.Context(), func(ctx context.Context, m bake.Machine) error {
		// Nothing here waits for the data to be on the disk.
		_, err := m.Run(ctx, bake.Command{Argv: []string{"dd", "if=/dev/urandom", "of=/srv/large", "bs=1M", "count=32"}})
		return err
	})
	full := new(disk.FullError)
	if !errors.As(err, &full) || full.Path != b.Disk {
		t.Errorf("Run() = %v, want a FullError of %s", err, b.Disk)
	}
	nothingLeft(t, b)
}
