package rpm

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/bakery"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/rpm/rpmtest"
)

type options map[string]any

// arch is this host's architecture as rpm writes it: the base disk has it too.
func arch() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

func prepare(t *testing.T, o options) (*Provisioner, error) {
	t.Helper()
	t.Setenv("PACKER_CACHE_DIR", t.TempDir())
	t.Setenv("PACKER_RUN_UUID", "the-run")
	p := new(Provisioner)
	return p, p.Prepare(map[string]any(o), map[string]any{"packer_builder_type": "immutable-disk", "packer_build_name": "hello"})
}

func provision(ctx context.Context, t *testing.T, m packersdk.Communicator, o options) (said string, err error) {
	t.Helper()
	p, err := prepare(t, o)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	ui := new(bakery.Ui)
	err = p.Provision(ctx, ui, m, nil)
	return ui.Said(), err
}

func mustProvision(ctx context.Context, t *testing.T, m packersdk.Communicator, o options) (said string) {
	t.Helper()
	said, err := provision(ctx, t, m, o)
	if err != nil {
		t.Fatalf("Provision: %v\n%s", err, said)
	}
	return said
}

func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there was no error")
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
}

// leavesNothing checks that the provisioner's own files are gone.
func leavesNothing(t *testing.T, m *bakery.Machine) {
	t.Helper()
	if left := m.Sh("ls -d /var/tmp/* /etc/yum.repos.d/immutable-* 2>/dev/null; true"); left != "" {
		t.Errorf("left in the machine:\n%s", left)
	}
}

const unit = `[Unit]
Description=Hello
[Service]
ExecStart=%s
[Install]
WantedBy=multi-user.target
`

func helloPackage(exec string) rpmtest.Package {
	return rpmtest.Package{
		Name: "hello", Version: "2.0", Arch: arch(),
		Files: map[string]string{
			"/usr/share/hello/greeting":             "hello\n",
			"/usr/lib/systemd/system/hello.service": strings.ReplaceAll(unit, "%s", exec),
		},
		Config: map[string]string{"/etc/hello.conf": "loud=no\n"},
	}
}

func TestInstallsEnablesAndRecords(t *testing.T) {
	for _, kind := range bake.Kinds {
		t.Run(kind, func(t *testing.T) {
			p := helloPackage("/bin/sleep infinity")
			p.Post = "echo loud=yes > /etc/hello.conf"
			file := rpmtest.Write(t, t.TempDir(), p)
			bakery.Bake(t, bakery.Disk(t), kind, func(ctx context.Context, m *bakery.Machine) {
				said := mustProvision(ctx, t, m, options{"packages": []string{file}, "services": []string{"hello.service"}})

				if got := m.Sh("rpm -q hello; systemctl is-enabled hello.service"); got != "hello-2.0-1."+arch()+"\nenabled" {
					t.Errorf("in the machine:\n%s", got)
				}
				if kind == bake.Container {
					if got := m.Sh("systemctl is-active hello.service"); got != "active" {
						t.Errorf("the service is %s", got)
					}
				}
				handed, found, err := record.Find(record.Key{Builder: "immutable-disk", Build: "hello"})
				if err != nil || !found {
					t.Fatalf("the record was not handed on: %v, %v", found, err)
				}
				inside, err := record.Unmarshal([]byte(m.Sh("cat " + record.Path)))
				if err != nil {
					t.Fatal(err)
				}
				for where, r := range map[string]record.Record{"handed on": handed, "in the image": inside} {
					if len(r.Packages) != 1 || r.Packages[0].String() != "hello-2.0-1."+arch() || r.Packages[0].Source != filepath.Base(file) ||
						!strings.HasPrefix(r.Packages[0].Digest, "sha256:") || r.Base.ID != "amzn" || r.Base.VersionID != "2023" || r.Run != "the-run" {
						t.Errorf("the record %s is %+v", where, r)
					}
				}
				leavesNothing(t, m)
				if t.Failed() {
					t.Log(said)
				}
			})
		})
	}
}

func TestDependenciesComeFromTheRepository(t *testing.T) {
	dir := t.TempDir()
	app := rpmtest.Write(t, dir, rpmtest.Package{Name: "app", Epoch: 2, Arch: arch(), Requires: []string{"liberty"}})
	repo := t.TempDir()
	rpmtest.WriteRepository(t, repo,
		rpmtest.Package{Name: "lib", Version: "1.2", Arch: "noarch", Provides: []string{"liberty"}, Files: map[string]string{"/usr/share/lib/x": "x"}},
		rpmtest.Package{Name: "tool", Version: "7", Arch: "noarch"})

	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		m.Repository("/srv/repo", repo)
		mustProvision(ctx, t, m, options{
			"packages":     []string{app, "tool"},
			"repositories": []options{{"id": "internal", "baseurl": []string{"file:///srv/repo"}, "gpgcheck": false}},
		})
		r, err := record.Unmarshal([]byte(m.Sh("cat " + record.Path)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range r.Packages {
			got = append(got, p.String()+" "+p.Source)
		}
		want := "app-2:1.0-1." + arch() + " " + filepath.Base(app) + "\nlib-1.2-1.noarch internal\ntool-7-1.noarch internal"
		if strings.Join(got, "\n") != want {
			t.Errorf("recorded:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
		}
		if cached := m.Sh("find /var/cache/dnf -type f | wc -l"); cached != "0" {
			t.Errorf("%s files are left in the cache", cached)
		}
		leavesNothing(t, m)
	})
}

func TestWorksForAUserWithSudo(t *testing.T) {
	file := rpmtest.Write(t, t.TempDir(), helloPackage("/bin/true"))
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		user := m.User("baker", "/etc/sudoers.d/baker")
		mustProvision(ctx, t, user, options{"packages": []string{file}, "services": []string{"hello"}})
		if got := m.Sh("rpm -q hello; stat -c '%U %a' " + record.Path); got != "hello-2.0-1."+arch()+"\nroot 644" {
			t.Errorf("in the machine:\n%s", got)
		}
		leavesNothing(t, m)
	})
}

func TestMissingDependencyFails(t *testing.T) {
	app := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Arch: arch(), Requires: []string{"nowhere-to-be-found"}})
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		_, err := provision(ctx, t, m, options{"packages": []string{app}})
		wantError(t, err, "nowhere-to-be-found", "app-1.0-1")
		leavesNothing(t, m)
	})
}

func TestFailingScriptletsFail(t *testing.T) {
	for name, p := range map[string]rpmtest.Package{
		"pre":  {Name: "app", Arch: arch(), Pre: "echo reason of pre; exit 1"},
		"post": {Name: "app", Arch: arch(), Post: "echo reason of post; exit 1"},
	} {
		t.Run(name, func(t *testing.T) {
			file := rpmtest.Write(t, t.TempDir(), p)
			bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
				_, err := provision(ctx, t, m, options{"packages": []string{file}})
				wantError(t, err, "scriptlet failed", "reason of "+name)
				leavesNothing(t, m)
			})
		})
	}
}

func TestVerifyFindsWhatDiffers(t *testing.T) {
	spoiled := helloPackage("/bin/true")
	spoiled.Post = "echo spoiled > /usr/share/hello/greeting"
	file := rpmtest.Write(t, t.TempDir(), spoiled)
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		_, err := provision(ctx, t, m, options{"packages": []string{file}})
		wantError(t, err, "rpm -V", "/usr/share/hello/greeting")
		mustProvision(ctx, t, m, options{"packages": []string{file}, "verify": false})
	})
}

func TestVerifyDemandsTheVeryBuild(t *testing.T) {
	newer := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Version: "2.0", Arch: arch()})
	older := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Version: "1.0", Arch: arch()})
	rebuilt := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Version: "2.0", Arch: arch(), Files: map[string]string{"/usr/share/x": "x"}})
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		mustProvision(ctx, t, m, options{"packages": []string{newer}})
		_, err := provision(ctx, t, m, options{"packages": []string{rebuilt}})
		wantError(t, err, "another build of the same version")
		mustProvision(ctx, t, m, options{"packages": []string{newer}})
		mustProvision(ctx, t, m, options{"packages": []string{older}})
		if got := m.Sh("rpm -q app"); got != "app-1.0-1."+arch() {
			t.Errorf("%s is installed", got)
		}
	})
}

func TestServices(t *testing.T) {
	crashing := rpmtest.Write(t, t.TempDir(), helloPackage("/bin/sh -c 'echo no database; exit 3'"))
	bakery.Bake(t, bakery.Disk(t), bake.Container, func(ctx context.Context, m *bakery.Machine) {
		_, err := provision(ctx, t, m, options{"packages": []string{crashing}, "services": []string{"hello.service"}})
		wantError(t, err, "hello.service is failed", "no database")
		_, err = provision(ctx, t, m, options{"services": []string{"nothing.service"}})
		wantError(t, err, "enable nothing.service", "does not exist")
		_, err = provision(ctx, t, m, options{"services": []string{"systemd-tmpfiles-clean.service"}})
		wantError(t, err, "[Install]")
		leavesNothing(t, m)
	})
}

func TestUpdates(t *testing.T) {
	repo := t.TempDir()
	old := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Version: "1.0", Arch: arch()})
	rpmtest.WriteRepository(t, repo, rpmtest.Package{Name: "app", Version: "1.1", Arch: arch()})
	repository := []options{{"id": "internal", "baseurl": []string{"file:///srv/$releasever"}, "gpgcheck": false}}

	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		m.Repository("/srv/2023.next", repo)
		mustProvision(ctx, t, m, options{"packages": []string{old}})
		installed := func() string { return m.Sh("rpm -q app") }
		mustProvision(ctx, t, m, options{"update": "security", "repositories": repository, "release_version": "2023.next"})
		if installed() != "app-1.0-1."+arch() {
			t.Errorf("a security update brought %s, which is none", installed())
		}
		mustProvision(ctx, t, m, options{"update": "all", "repositories": repository, "release_version": "2023.next"})
		if installed() != "app-1.1-1."+arch() {
			t.Errorf("after an update of all, %s is installed", installed())
		}
		r, err := record.Unmarshal([]byte(m.Sh("cat " + record.Path)))
		if err != nil || len(r.Packages) != 1 || r.Packages[0].Version != "1.1" || r.Packages[0].Source != "internal" {
			t.Errorf("recorded: %+v, %v", r, err)
		}
	})
}

func TestRepositoryThatIsKept(t *testing.T) {
	repo := t.TempDir()
	rpmtest.WriteRepository(t, repo, rpmtest.Package{Name: "tool", Arch: "noarch"})
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		m.Repository("/srv/repo", repo)
		mustProvision(ctx, t, m, options{
			"packages": []string{"tool"},
			"clean":    false,
			"repositories": []options{
				{"id": "kept", "baseurl": []string{"file:///srv/repo"}, "gpgcheck": false, "keep": true, "priority": 10},
				{"id": "later", "baseurl": []string{"file:///srv/later"}, "gpgcheck": false, "keep": true, "enabled": false},
			},
		})
		if got := m.Sh("dnf -q repolist --all | awk 'NR>1{print $1, $NF}'"); got != "kept enabled\nlater disabled" {
			t.Errorf("repositories:\n%s", got)
		}
		if cached := m.Sh("find /var/cache/dnf -type f | wc -l"); cached == "0" {
			t.Error("the cache was removed in spite of clean = false")
		}
	})
}

func TestUnsignedRepositoryPackagesAreRefusedWhereSignaturesAreRequired(t *testing.T) {
	repo := t.TempDir()
	rpmtest.WriteRepository(t, repo, rpmtest.Package{Name: "tool", Arch: "noarch"})
	key := rpmtest.WriteKey(t, t.TempDir(), rpmtest.Key(t, "builder"))
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		m.Repository("/srv/repo", repo)
		m.Put("/etc/yum.repos.d/lax.repo", "[lax]\nname=lax\nbaseurl=file:///srv/repo\ngpgcheck=0\n")
		_, err := provision(ctx, t, m, options{"packages": []string{"tool"}, "gpg_keys": []string{key}})
		wantError(t, err, "install tool")
		mustProvision(ctx, t, m, options{"packages": []string{"tool"}, "gpg_keys": []string{key}, "require_signature": false})
	})
}

func TestSignedPackagesAreInstalledWithoutTheirKey(t *testing.T) {
	alice := rpmtest.Key(t, "alice")
	file := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Arch: arch(), Key: alice})
	key := rpmtest.WriteKey(t, t.TempDir(), alice)
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		said := mustProvision(ctx, t, m, options{"packages": []string{file}, "gpg_keys": []string{key}})
		if !strings.Contains(said, "signed by alice <alice@example.com>") {
			t.Errorf("the signer is not told:\n%s", said)
		}
		if got := m.Sh("rpm -q app; rpm -q gpg-pubkey || true"); got != "app-1.0-1."+arch()+"\npackage gpg-pubkey is not installed" {
			t.Errorf("in the machine:\n%s", got)
		}
	})
}

func TestPackageForAnotherMachineIsNotUploaded(t *testing.T) {
	other := map[string]string{"x86_64": "aarch64", "aarch64": "x86_64"}[arch()]
	file := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Arch: other})
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		said, err := provision(ctx, t, m, options{"packages": []string{file}})
		wantError(t, err, "is for "+other+" and the machine is "+arch())
		if strings.Contains(said, "Uploading") {
			t.Errorf("something was uploaded:\n%s", said)
		}
	})
}

func TestFileThatChangedSincePrepareIsRefused(t *testing.T) {
	file := rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "app", Arch: arch()})
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		p, err := prepare(t, options{"packages": []string{file}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, p.Provision(ctx, new(bakery.Ui), m, nil), "not an RPM")
	})
}
