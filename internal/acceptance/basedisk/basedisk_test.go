package basedisk

import (
	"os"
	"testing"
)

func TestPathIsADiskOfEightGiBThatCostsOnlyItsData(t *testing.T) {
	disk, err := os.Stat(Path(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := disk.Size(), int64(8<<30); got != want {
		t.Errorf("size is %d bytes, want %d", got, want)
	}
}

func TestBuildOutsideTheRepositorySaysSo(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Build(t.Context()); err == nil {
		t.Error("found a script outside the repository")
	}
}
