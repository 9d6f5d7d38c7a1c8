package record

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	hello1 = Package{Name: "hello", Version: "1.0", Release: "1", Arch: "x86_64", Digest: "sha256:aa", Source: "hello-1.0.rpm"}
	hello2 = Package{Name: "hello", Epoch: 1, Version: "2.0", Release: "1", Arch: "x86_64"}
	curl   = Package{Name: "curl", Version: "8.5", Release: "1.amzn2023", Arch: "x86_64", Source: "amazonlinux"}
)

func aRun(t *testing.T) (cache string) {
	t.Helper()
	cache = t.TempDir()
	t.Setenv("PACKER_CACHE_DIR", cache)
	t.Setenv("PACKER_RUN_UUID", "11111111-2222-3333-4444-555555555555")
	return cache
}

func TestFindReturnsWhatWasHanded(t *testing.T) {
	aRun(t)
	key := Key{"immutable-direct", "hello"}
	want := Record{
		Run:      Run(),
		Image:    "i",
		Time:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Base:     Base{ID: "amzn", VersionID: "2023", Name: "Amazon Linux 2023"},
		Packages: []Package{curl, hello2},
	}
	for _, r := range []Record{{Run: Run(), Image: "i"}, want} {
		if err := Hand(key, r); err != nil {
			t.Fatal(err)
		}
	}
	got, found, err := Find(key)
	if err != nil || !found {
		t.Fatalf("Find() = found %v, error %v", found, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was found differs from what was handed:\n%s", diff)
	}
}

func TestFindOfABuildWithoutRecordIsNoError(t *testing.T) {
	aRun(t)
	if err := Hand(Key{"immutable-direct", "hello"}, Record{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []Key{{"immutable-direct", "other"}, {"immutable-disk", "hello"}} {
		if _, found, err := Find(key); found || err != nil {
			t.Errorf("Find(%v) = found %v, error %v", key, found, err)
		}
	}
}

func TestTwoImagesUnderOneNameAreAnError(t *testing.T) {
	aRun(t)
	key := Key{"immutable-direct", "hello"}
	first := New(Base{})
	if err := errors.Join(Hand(key, first), Hand(key, first)); err != nil {
		t.Fatal(err)
	}
	if err := Hand(key, New(Base{})); err == nil || !strings.Contains(err.Error(), "source block of its own") {
		t.Errorf("Hand gave %v", err)
	}
}

func TestRunsDoNotSeeEachOther(t *testing.T) {
	aRun(t)
	key := Key{"immutable-direct", "hello"}
	if err := Hand(key, Record{}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PACKER_RUN_UUID", "another")
	if _, found, err := Find(key); found || err != nil {
		t.Errorf("a record of another run: found %v, error %v", found, err)
	}
}

func TestNamesCannotLeaveTheRunsDirectory(t *testing.T) {
	cache := aRun(t)
	key := Key{"../../..", "a/b"}
	if err := Hand(key, Record{}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cache, "immutable", "runs", "*", "*.json"))
	if err != nil || len(files) != 1 {
		t.Errorf("records are %v (%v), want one file", files, err)
	}
}

func TestOutsideOfPackerIsAnError(t *testing.T) {
	aRun(t)
	t.Setenv("PACKER_RUN_UUID", "")
	if err := Hand(Key{}, Record{}); err == nil {
		t.Error("Hand gave no error")
	}
	if _, _, err := Find(Key{}); err == nil {
		t.Error("Find gave no error")
	}
}

func TestOldRunsAreForgotten(t *testing.T) {
	runs := filepath.Join(aRun(t), "immutable", "runs")
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "recent": 23 * time.Hour} {
		dir := filepath.Join(runs, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := Hand(Key{"immutable-disk", "x"}, Record{}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(runs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{Run(), "recent"}, names); diff != "" {
		t.Errorf("runs kept:\n%s", diff)
	}
}

func TestRecordFollowsTheTransactionsOfARun(t *testing.T) {
	var r Record
	r.Add(hello1, curl)
	r.Add(hello2)
	r.Add(Package{Name: "curl", Version: "8.5", Release: "1.amzn2023", Arch: "x86_64", Digest: "sha256:cc"})
	r.Retain([]Package{hello2, curl})

	known := curl
	known.Digest = "sha256:cc"
	if diff := cmp.Diff([]Package{known, hello2}, r.Packages); diff != "" {
		t.Errorf("packages of the record:\n%s", diff)
	}
}

func TestPackageIsWrittenAsNEVRA(t *testing.T) {
	for want, p := range map[string]Package{"hello-1.0-1.x86_64": hello1, "hello-1:2.0-1.x86_64": hello2} {
		if p.String() != want {
			t.Errorf("%+v is written %q, want %q", p, p.String(), want)
		}
	}
}
