package rpm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/rpm/rpmtest"
)

// shelf is a directory with package files and keys.
type shelf struct{ plain, signed, key, otherKey, foreign, damaged, text, dir string }

func newShelf(t *testing.T) shelf {
	t.Helper()
	dir := t.TempDir()
	alice := rpmtest.Key(t, "alice")
	s := shelf{
		dir:      dir,
		plain:    rpmtest.Write(t, dir, rpmtest.Package{Name: "plain"}),
		signed:   rpmtest.Write(t, dir, rpmtest.Package{Name: "signed", Key: alice}),
		foreign:  rpmtest.Write(t, dir, rpmtest.Package{Name: "foreign", Arch: "aarch64"}),
		key:      rpmtest.WriteKey(t, t.TempDir(), alice),
		otherKey: rpmtest.WriteKey(t, t.TempDir(), rpmtest.Key(t, "bob")),
		damaged:  filepath.Join(t.TempDir(), "damaged.rpm"),
		text:     filepath.Join(t.TempDir(), "text.rpm"),
	}
	content, err := os.ReadFile(s.plain)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-5] ^= 1
	if err := os.WriteFile(s.damaged, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.text, []byte("<html>404</html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrepareRefuses(t *testing.T) {
	s := newShelf(t)
	zero := "sha256:" + strings.Repeat("0", 64)
	repository := func(more options) options {
		o := options{"id": "internal", "baseurl": []string{"https://example.com/repo"}, "gpgkey": []string{"https://example.com/key"}}
		for k, v := range more {
			if v == nil {
				delete(o, k)
			} else {
				o[k] = v
			}
		}
		return options{"packages": []string{"x"}, "repositories": []options{o}}
	}
	for name, test := range map[string]struct {
		given options
		want  []string
	}{
		"nothing":             {options{}, []string{"packages: nothing is to be installed", "name at least one"}},
		"missing file":        {options{"packages": []string{"dist/no.rpm"}}, []string{"packages: dist/no.rpm: no such file or directory; build the package first, or correct the path"}},
		"missing directory":   {options{"packages": []string{"dist/no"}}, []string{"packages: dist/no: no such file"}},
		"empty pattern":       {options{"packages": []string{s.dir + "/no*.rpm"}}, []string{"no file matches", "no*.rpm", "correct the pattern"}},
		"bad pattern":         {options{"packages": []string{s.dir + "/[.rpm"}}, []string{"is not a pattern"}},
		"directory":           {options{"packages": []string{s.dir + "/"}}, []string{"not an RPM"}},
		"not an RPM":          {options{"packages": []string{s.text}}, []string{s.text, "not an RPM file: it begins with 3c68746d"}},
		"damaged":             {options{"packages": []string{s.damaged}}, []string{s.damaged, "it is damaged: the SHA-256 of its payload is"}},
		"two architectures":   {options{"packages": []string{s.plain, s.foreign}}, []string{"x86_64", "aarch64", "one machine can't have both"}},
		"http":                {options{"packages": []string{"http://user:secret@example.com/a.rpm?sig=1"}}, []string{`"http://example.com/a.rpm" can't be fetched`, "https://"}},
		"bucket without key":  {options{"packages": []string{"s3://bucket"}, "region": "eu-west-1"}, []string{"s3://bucket/key"}},
		"option as a name":    {options{"packages": []string{"--nogpgcheck"}}, []string{"--nogpgcheck"}},
		"name with a space":   {options{"packages": []string{"a b"}}, []string{`"a b" is neither`}},
		"misspelt checksum":   {options{"packages": []string{s.plain}, "checksums": map[string]string{"plain": zero}}, []string{`checksums: "plain" is not one of the packages`}},
		"short checksum":      {options{"packages": []string{s.plain}, "checksums": map[string]string{s.plain: "md5:00"}}, []string{"64 hexadecimal digits"}},
		"checksum of a name":  {options{"packages": []string{"x"}, "checksums": map[string]string{"x": zero}}, []string{"from its repositories"}},
		"wrong checksum":      {options{"packages": []string{s.plain}, "checksums": map[string]string{s.plain: zero}}, []string{s.plain, "has the checksum sha256:", zero}},
		"unsigned":            {options{"packages": []string{s.plain}, "gpg_keys": []string{s.key}}, []string{s.plain, "it is not signed", "require_signature = false"}},
		"signed by another":   {options{"packages": []string{s.signed}, "gpg_keys": []string{s.otherKey}}, []string{s.signed, "none of the keys given"}},
		"no keys":             {options{"packages": []string{s.signed}, "require_signature": true}, []string{"gpg_keys is empty"}},
		"missing key":         {options{"packages": []string{s.signed}, "gpg_keys": []string{"no.asc"}}, []string{"gpg_keys", "no.asc"}},
		"key that is none":    {options{"packages": []string{s.signed}, "gpg_keys": []string{s.text}}, []string{"gpg_keys", "not an OpenPGP public key"}},
		"update":              {options{"update": "some"}, []string{`update is "some"`, "none, security, all"}},
		"release_version":     {options{"packages": []string{"x"}, "release_version": "2023 --x"}, []string{"release_version"}},
		"service":             {options{"services": []string{"a b"}}, []string{"services", "a b"}},
		"unknown option":      {options{"package": "x"}, []string{"package"}},
		"unknown region":      {options{"packages": []string{"s3://b/k.rpm"}, "region": "eu-nowhere-1"}, []string{"eu-nowhere-1"}},
		"repository id":       {repository(options{"id": "a/b"}), []string{`id is "a/b"`}},
		"no baseurl":          {repository(options{"baseurl": nil}), []string{"internal", "baseurl or mirrorlist"}},
		"repository address":  {repository(options{"baseurl": []string{"https://x\ngpgcheck=0"}}), []string{"is not an https://"}},
		"gpgcheck, no gpgkey": {repository(options{"gpgkey": nil}), []string{"gpgkey is empty"}},
		"gpgkey, no gpgcheck": {repository(options{"gpgcheck": false}), []string{"gpgcheck is off and gpgkey is given"}},
		"priority":            {repository(options{"priority": 100}), []string{"priority is 100"}},
		"repository unused":   {repository(options{"enabled": false}), []string{"neither enabled nor kept"}},
		"lax repository":      {options{"packages": []string{"x"}, "require_signature": true, "repositories": []options{{"id": "r", "baseurl": []string{"file:///r"}, "gpgcheck": false}}}, []string{"gpgcheck is off and require_signature is on"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prepare(t, test.given)
			wantError(t, err, test.want...)
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sig=1") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestPrepareRefusesTwoFilesOfOnePackage(t *testing.T) {
	dir := t.TempDir()
	rpmtest.Write(t, dir, rpmtest.Package{Name: "app", Version: "1.0"})
	rpmtest.Write(t, dir, rpmtest.Package{Name: "app", Version: "2.0"})
	_, err := prepare(t, options{"packages": []string{dir + "/*.rpm"}})
	wantError(t, err, "app-1.0", "app-2.0", "are both the package app")
}

func TestPrepareAccepts(t *testing.T) {
	s := newShelf(t)
	for name, given := range map[string]options{
		"file":               {"packages": []string{s.plain}},
		"the same twice":     {"packages": []string{s.plain, s.plain}},
		"signed":             {"packages": []string{s.signed}, "gpg_keys": []string{s.otherKey, s.key}},
		"unsigned, lenient":  {"packages": []string{s.plain}, "gpg_keys": []string{s.key}, "require_signature": false},
		"pattern, checksum":  {"packages": []string{s.dir + "/pl*.rpm"}, "checksums": map[string]string{s.plain: digest(t, s.plain)}},
		"bare checksum":      {"packages": []string{s.plain}, "checksums": map[string]string{s.plain: strings.ToUpper(strings.TrimPrefix(digest(t, s.plain), "sha256:"))}},
		"names":              {"packages": []string{"nginx", "nginx-1:1.24*", "@development-tools", "gcc-c++.x86_64", "pkgconfig(zlib)"}},
		"URLs":               {"packages": []string{"https://example.com/a.rpm", "s3://bucket/key with space.rpm"}, "region": "eu-west-1"},
		"names, signed":      {"packages": []string{"nginx"}, "require_signature": true},
		"only an update":     {"update": "security", "release_version": "2023.6.20250107"},
		"repository by list": {"packages": []string{"x"}, "repositories": []options{{"id": "r", "mirrorlist": "https://example.com/$releasever/$basearch/mirrors", "gpgkey": []string{"file:///etc/pki/key"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := prepare(t, given); err != nil {
				t.Error(err)
			}
		})
	}
}
