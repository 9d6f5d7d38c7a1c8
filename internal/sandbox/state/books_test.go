package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type page struct{ Names []string }

func open(t *testing.T, dir string) (*Books, *Ledger[page]) {
	t.Helper()
	books, err := Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = books.Close() })
	ledger, err := Declare(books, "names", func(region string) *page { return &page{Names: []string{region}} })
	if err != nil {
		t.Fatal(err)
	}
	return books, ledger
}

func TestPagesAreSavedAndFoundAgain(t *testing.T) {
	// The directory is the user's: nothing in its name has a meaning.
	dir := filepath.Join(t.TempDir(), "a[b]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	books, ledger := open(t, dir)
	books.Do(func() {
		p := ledger.In("eu-west-1")
		p.Names = append(p.Names, "hello")
	})
	if err := books.Close(); err != nil {
		t.Fatal(err)
	}

	books, ledger = open(t, dir)
	books.Read(func() {
		if got := strings.Join(ledger.In("eu-west-1").Names, " "); got != "eu-west-1 hello" {
			t.Errorf("the page holds %q after a restart", got)
		}
		if got := ledger.Regions(); len(got) != 1 {
			t.Errorf("regions %v after a restart", got)
		}
	})
}

func TestAChangeIsSavedAMomentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		books, ledger := open(t, dir)
		books.Do(func() { ledger.In("eu-west-1") })
		path := filepath.Join(dir, "eu-west-1", "names.json")
		if _, err := os.Stat(path); err == nil {
			t.Error("saved at once")
		}
		time.Sleep(leastPause)
		synctest.Wait()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("not saved: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*", "*.new")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestNothingIsSavedOnceTheBooksAreClosed(t *testing.T) {
	dir := t.TempDir()
	books, ledger := open(t, dir)
	if err := books.Close(); err != nil {
		t.Fatal(err)
	}
	books.Do(func() { ledger.In("eu-west-1") })
	if err := books.Save(); err != nil { // as a save does that was due
		t.Fatal(err)
	}
	if saved, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(saved) > 0 {
		t.Errorf("saved after the end: %v", saved)
	}
}

func TestDamagedStateNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "eu-west-1", "names.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	books, err := Open(dir, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Declare(books, "names", func(string) *page { return &page{} }); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Declare gave %v, want an error that names %s", err, path)
	}
}

func TestADirectoryIsOneSandboxs(t *testing.T) {
	dir := t.TempDir()
	books, _ := open(t, dir)
	if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "another sandbox") {
		t.Errorf("opening a directory in use gave %v", err)
	}
	if err := books.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestOutsideLetsGoOfTheBooks(t *testing.T) {
	books, ledger := open(t, t.TempDir())
	books.Do(func() {
		books.Outside(func() {
			books.Do(func() { ledger.In("eu-west-1").Names = nil })
		})
		if ledger.In("eu-west-1").Names != nil {
			t.Error("a change made meanwhile is not seen")
		}
	})
}
