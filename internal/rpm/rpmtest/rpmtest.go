// Package rpmtest makes real RPM files, and keys to sign them, for tests.
package rpmtest

import (
	"bytes"
	"cmp"
	"crypto"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/files"
	nfpmrpm "github.com/goreleaser/nfpm/v2/rpm"
)

// Package describes an RPM file to make. Only Name is needed.
type Package struct {
	Name    string
	Epoch   int
	Version string // default 1.0
	Release string // default 1
	Arch    string // default x86_64

	Files    map[string]string // path in the machine → content
	Config   map[string]string // the same, as %config files
	Pre      string            // shell of the %pre scriptlet
	Post     string            // shell of the %post scriptlet
	Requires []string
	Provides []string

	Key *openpgp.Entity // signs if it is given
}

// Write makes the file in a directory, by its usual name.
func Write(t testing.TB, dir string, p Package) (path string) {
	t.Helper()
	info := p.info(t)
	path = filepath.Join(dir, fmt.Sprintf("%s-%s-%s.%s.rpm", info.Name, info.Version, info.Release, info.Arch))
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := nfpmrpm.DefaultRPM.Package(info, f); err != nil {
		t.Fatalf("make %s: %v", path, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func (p Package) info(t testing.TB) *nfpm.Info {
	t.Helper()
	info := &nfpm.Info{
		Name:          p.Name,
		Version:       cmp.Or(p.Version, "1.0"),
		VersionSchema: "none",
		Release:       cmp.Or(p.Release, "1"),
		Arch:          cmp.Or(p.Arch, "x86_64"),
		Platform:      "linux",
		Maintainer:    "Test <test@example.com>",
		Description:   "A package for tests.",
		License:       "MPL-2.0",
		MTime:         time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	if p.Epoch != 0 {
		info.Epoch = strconv.Itoa(p.Epoch)
	}
	info.Depends, info.Provides = p.Requires, p.Provides
	info.Contents = append(contents(t, p.Files, files.TypeFile), contents(t, p.Config, files.TypeConfig)...)
	info.Scripts.PreInstall, info.Scripts.PostInstall = script(t, p.Pre), script(t, p.Post)
	if p.Key != nil {
		info.RPM.Signature.SignFn = signer(p.Key)
	}
	return info
}

func contents(t testing.TB, of map[string]string, kind string) files.Contents {
	t.Helper()
	var all files.Contents
	for path, text := range of {
		source := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		all = append(all, &files.Content{Source: source, Destination: path, Type: kind})
	}
	return all
}

func script(t testing.TB, text string) (path string) {
	t.Helper()
	if text == "" {
		return ""
	}
	path = filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func signer(key *openpgp.Entity) func(io.Reader) ([]byte, error) {
	return func(data io.Reader) ([]byte, error) {
		var signature bytes.Buffer
		err := openpgp.DetachSign(&signature, key, data, config())
		return signature.Bytes(), err
	}
}

// Key makes an RSA key.
func Key(t testing.TB, name string) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity(name, "", name+"@example.com", config())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// WriteKey writes the public half of keys, one armored block each.
func WriteKey(t testing.TB, dir string, keys ...*openpgp.Entity) (path string) {
	t.Helper()
	var text bytes.Buffer
	for _, key := range keys {
		block, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := key.Serialize(block); err != nil {
			t.Fatal(err)
		}
		if err := block.Close(); err != nil {
			t.Fatal(err)
		}
		text.WriteByte('\n')
	}
	path = filepath.Join(dir, "RPM-GPG-KEY")
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func config() *packet.Config {
	return &packet.Config{RSABits: 2048, Algorithm: packet.PubKeyAlgoRSA, DefaultHash: crypto.SHA256}
}
