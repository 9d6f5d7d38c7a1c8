package rpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/immutable-server/packer-plugin-immutable/internal/rpm/rpmtest"
)

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatalf("Open(%s): %v", filepath.Base(path), err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func hello(key *openpgp.Entity) rpmtest.Package {
	return rpmtest.Package{
		Name: "hello", Epoch: 3, Version: "2.0~rc1", Release: "1.amzn2023",
		Files: map[string]string{"/usr/share/hello/text": strings.Repeat("hello ", 5000)},
		Key:   key,
	}
}

func TestOpenReadsWhatRpmReads(t *testing.T) {
	path := rpmtest.Write(t, t.TempDir(), hello(nil))
	f := open(t, path)

	out, err := exec.CommandContext(t.Context(), "rpm", "-qp", "--qf", "%{NAME} %{EPOCH} %{VERSION} %{RELEASE} %{ARCH}", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.Name, " ", f.Epoch, " ", f.Version, " ", f.Release, " ", f.Arch); got != string(out) {
		t.Errorf("read %q, rpm reads %q", got, out)
	}
	if want := "hello-3:2.0~rc1-1.amzn2023.x86_64"; f.NEVRA() != want {
		t.Errorf("NEVRA() = %s, want %s", f.NEVRA(), want)
	}
	if f.FileName() != filepath.Base(path) {
		t.Errorf("FileName() = %s, want %s", f.FileName(), filepath.Base(path))
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(content); f.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("Digest = %s", f.Digest)
	}
}

func TestOpenReadsWhatRpmbuildWrites(t *testing.T) {
	dir := t.TempDir()
	spec := filepath.Join(dir, "plain.spec")
	if err := os.WriteFile(spec, []byte("Name: plain\nVersion: 1\nRelease: 2\nSummary: s\nLicense: l\nBuildArch: noarch\n%description\nd\n%files\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "rpmbuild", "-ba", "--define", "_topdir "+dir, "--define", "_rpmdir "+dir, "--define", "_srcrpmdir "+dir, spec)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if f := open(t, filepath.Join(dir, "noarch", "plain-1-2.noarch.rpm")); f.NEVRA() != "plain-1-2.noarch" {
		t.Errorf("NEVRA() = %s", f.NEVRA())
	}
	if _, err := Open(filepath.Join(dir, "plain-1-2.src.rpm")); err == nil || !strings.Contains(err.Error(), "source package") {
		t.Errorf("a source package gave %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	whole, err := os.ReadFile(rpmtest.Write(t, t.TempDir(), hello(nil)))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":             {nil, "not an RPM file"},
		"a script":          {[]byte("#!/bin/sh\nexit 0\n"), "not an RPM file"},
		"lead only":         {whole[:96], "ends within the signature header"},
		"half a header":     {whole[:len(whole)/2], "damaged"},
		"one byte short":    {whole[:len(whole)-1], "bytes after its signatures"},
		"one byte too many": {append(bytes.Clone(whole), 0), "bytes after its signatures"},
		"changed payload":   {flip(whole, len(whole)-9), "of its payload is"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.rpm")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open gave %v, want an error with %q", err, test.want)
			}
		})
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRPM) {
		t.Errorf("a directory gave %v", err)
	}
}

func flip(content []byte, at int) []byte {
	changed := bytes.Clone(content)
	changed[at] ^= 0xff
	return changed
}

// Lead and signature header are covered by no digest: a change there is either
// noticed or changes nothing of what is read. Everywhere else it is noticed.
func TestAChangedByteIsNoticed(t *testing.T) {
	key := rpmtest.Key(t, "builder")
	keys := Keys{key}
	path := rpmtest.Write(t, t.TempDir(), hello(key))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	original := open(t, path)
	random := mathrand.New(mathrand.NewPCG(1, 2))

	check := func(at int, mask byte) {
		changed := bytes.Clone(whole)
		changed[at] ^= mask
		path := filepath.Join(t.TempDir(), "x.rpm")
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		if int64(at) >= original.start {
			t.Fatalf("byte %d of %d changed by %#x, and nothing was noticed", at, len(whole), mask)
		}
		if f.NEVRA() != original.NEVRA() || f.start != original.start {
			t.Fatalf("byte %d changed by %#x: read %s at %d", at, mask, f.NEVRA(), f.start)
		}
		if _, err := f.Signer(keys); err == nil && !bytes.Equal(f.header.raw, original.header.raw) {
			t.Fatalf("byte %d changed by %#x: another header has a good signature", at, mask)
		}
	}
	for at := range int(original.start) {
		check(at, byte(1+random.IntN(255)))
	}
	for range 2000 {
		check(int(original.start)+random.IntN(len(whole)-int(original.start)), byte(1+random.IntN(255)))
	}
}

func TestSigner(t *testing.T) {
	dir := t.TempDir()
	alice, bob := rpmtest.Key(t, "alice"), rpmtest.Key(t, "bob")
	keys, err := ReadKeys(rpmtest.WriteKey(t, dir, bob, alice))
	if err != nil || len(keys) != 2 {
		t.Fatalf("ReadKeys gave %d keys, %v", len(keys), err)
	}
	signed := open(t, rpmtest.Write(t, dir, hello(alice)))

	if signer, err := signed.Signer(keys); err != nil || !strings.Contains(signer, "alice@example.com") {
		t.Errorf("Signer = %q, %v", signer, err)
	}
	var stranger *SignerError
	if _, err := signed.Signer(keys[:1]); !errors.As(err, &stranger) || len(stranger.IDs) != 1 || stranger.IDs[0] != fmt.Sprintf("%016X", alice.PrimaryKey.KeyId) {
		t.Errorf("signed by none of the keys: %v", err)
	}
	if _, err := open(t, rpmtest.Write(t, t.TempDir(), hello(nil))).Signer(keys); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
}

func TestSignatureOfAnotherFileIsBad(t *testing.T) {
	alice := rpmtest.Key(t, "alice")
	one := open(t, rpmtest.Write(t, t.TempDir(), hello(alice)))
	other := open(t, rpmtest.Write(t, t.TempDir(), rpmtest.Package{Name: "other", Key: alice}))
	one.signature = other.signature
	if _, err := one.Signer(Keys{alice}); err == nil || !strings.Contains(err.Error(), "is bad") {
		t.Errorf("Signer gave %v", err)
	}
}

// TestSignatureOfVersion3 signs as gpg --force-v3-sigs does.
func TestSignatureOfVersion3(t *testing.T) {
	alice := rpmtest.Key(t, "alice")
	f := open(t, rpmtest.Write(t, t.TempDir(), hello(alice)))

	body := []byte{3, 5, 0, 0x5e, 0, 0, 0}
	body = binary.BigEndian.AppendUint64(body, alice.PrimaryKey.KeyId)
	body = append(body, 1, 8)
	hash := sha256.New()
	hash.Write(f.header.raw)
	hash.Write(body[2:7])
	sum := hash.Sum(nil)
	private, ok := alice.PrivateKey.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		t.Fatal("the key is no RSA key")
	}
	value, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, sum[0], sum[1])
	body = binary.BigEndian.AppendUint16(body, uint16(len(value)*8))
	body = append(body, value...)
	blob := append([]byte{0x89}, binary.BigEndian.AppendUint16(nil, uint16(len(body)))...)
	blob = append(blob, body...)

	signer, _, err := f.verify(signature{blob: blob}, Keys{alice})
	if err != nil || !strings.Contains(signer, "alice@") {
		t.Errorf("a good signature gave %q, %v", signer, err)
	}
	if _, stranger, err := f.verify(signature{blob: blob}, Keys{rpmtest.Key(t, "bob")}); err != nil || stranger == "" {
		t.Errorf("a stranger's signature gave %q, %v", stranger, err)
	}
	if _, _, err := f.verify(signature{blob: flip(blob, len(blob)-1)}, Keys{alice}); err == nil {
		t.Error("a changed signature is good")
	}
}

func TestReadKeysRefuses(t *testing.T) {
	for name, test := range map[string]struct{ content, want string }{
		"nothing":     {"", "not an OpenPGP public key"},
		"a text":      {"hello", "not an OpenPGP public key"},
		"half a key":  {publicBlock + "\n\nAAAA", "not an OpenPGP public key"},
		"private key": {privateBlock + "\n", "private key"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ReadKeys gave %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	whole, err := os.ReadFile(rpmtest.Write(f, f.TempDir(), rpmtest.Package{Name: "x"}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "x.rpm")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if rpm, err := Open(path); err == nil {
			rpm.Signer(nil)
			rpm.Close()
		}
	})
}
