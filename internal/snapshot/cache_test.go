package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

var started = time.Unix(1_700_000_000, 0)

func cached(t *testing.T) (Cache, *service, []byte) {
	disk, _ := disks(rand.New(rand.NewSource(1)), 24)
	s := newService(t)
	s.add("snap-base", 1, disk)
	return Cache{filepath.Join(t.TempDir(), "cache")}, s, disk
}

func get(t *testing.T, c Cache, s *service) (path string) {
	t.Helper()
	path, index, err := c.Snapshot(t.Context(), &quiet{}, s, "eu-west-1", "snap-base", started)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range index.Blocks {
		if b.Digest != indexOf(s, "snap-base").Digest(b.Index) {
			t.Errorf("the digest of block %d is not that of EBS", b.Index)
		}
	}
	return path
}

func assertDisk(t *testing.T, path string, want []byte) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	info, err := f.Stat()
	must(t, err)
	got := make([]byte, len(want))
	_, err = io.ReadFull(f, got)
	must(t, err)
	if info.Size() != 1<<30 || !bytes.Equal(got, want) {
		t.Error("the file is not the snapshot's disk")
	}
	for extent, err := range disk.Extents(f) {
		must(t, err)
		if extent.Start+extent.Size > int64(len(want)) {
			t.Error("there is data where the snapshot has none")
		}
	}
}

func TestADiskIsDownloadedOnce(t *testing.T) {
	c, s, disk := cached(t)
	assertDisk(t, get(t, c, s), disk)
	calls := s.called("List") + s.called("Get")
	assertDisk(t, get(t, c, s), disk)
	if again := s.called("List") + s.called("Get") - calls; again != 0 {
		t.Errorf("the second time, AWS was called %d times", again)
	}
}

func TestALongListIsReadPageByPage(t *testing.T) {
	c, s, disk := cached(t)
	s.page = 7
	assertDisk(t, get(t, c, s), disk)
}

func TestADiskThatIsNotWholeIsFetchedAnew(t *testing.T) {
	write := func(t *testing.T, path string, at int64, b string) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(b), at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, harm := range map[string]func(t *testing.T, disk, index string){
		"a byte is another": func(t *testing.T, disk, _ string) { write(t, disk, 3*blockSize+9, "x") },
		"a hole has data":   func(t *testing.T, disk, _ string) { write(t, disk, 1<<29, "x") },
		"it is cut short":   func(t *testing.T, disk, _ string) { must(t, os.Truncate(disk, 100)) },
		"it is gone":        func(t *testing.T, disk, _ string) { must(t, os.Remove(disk)) },
		"the download was cut off": func(t *testing.T, disk, index string) {
			must(t, os.Rename(disk, disk+".part"))
			must(t, os.Remove(index))
		},
		"the index is damaged":           func(t *testing.T, _, index string) { write(t, index, 300, "x") },
		"the index is cut short":         func(t *testing.T, _, index string) { must(t, os.Truncate(index, 10)) },
		"the index is empty":             func(t *testing.T, _, index string) { must(t, os.Truncate(index, 0)) },
		"the index's write was cut off":  func(t *testing.T, _, index string) { must(t, os.Rename(index, index+".part")) },
		"a block of data is only a hole": func(t *testing.T, disk, _ string) { punch(t, disk) },
	} {
		t.Run(name, func(t *testing.T) {
			c, s, disk := cached(t)
			path := get(t, c, s)
			harm(t, path, filepath.Join(c.Dir, "eu-west-1-snap-base.index"))
			calls := s.called("Get")
			assertDisk(t, get(t, c, s), disk)
			if s.called("Get") == calls {
				t.Error("nothing was fetched")
			}
			if left, err := filepath.Glob(filepath.Join(c.Dir, "*.part")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

// punch makes the first data of a file a hole.
func punch(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	for extent, err := range disk.Extents(f) {
		must(t, err)
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, extent.Start, extent.Size))
		break
	}
	must(t, f.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatWasOnlyMovedIsVerifiedAndUsed(t *testing.T) {
	c, s, disk := cached(t)
	path := get(t, c, s)
	must(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	calls := s.called("Get")
	assertDisk(t, get(t, c, s), disk)
	if s.called("Get") != calls {
		t.Error("an intact disk was fetched again")
	}
}

func TestAnOtherSnapshotOfTheSameIdIsNotTakenForIt(t *testing.T) {
	c, s, _ := cached(t)
	get(t, c, s)
	other, _ := disks(rand.New(rand.NewSource(2)), 50)
	s.add("snap-base", 1, other)
	path, _, err := c.Snapshot(t.Context(), &quiet{}, s, "eu-west-1", "snap-base", started.Add(time.Hour))
	must(t, err)
	assertDisk(t, path, other)
}

func TestTwoBuildsAtOnceDownloadOnce(t *testing.T) {
	c, s, disk := cached(t)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			path, _, err := c.Snapshot(t.Context(), &quiet{}, s, "eu-west-1", "snap-base", started)
			if err != nil {
				t.Error(err)
				return
			}
			assertDisk(t, path, disk)
		})
	}
	both.Wait()
	if got, want := s.called("Get"), len(s.indexes("snap-base")); got != want {
		t.Errorf("%d blocks were read, of %d", got, want)
	}
}

func TestDownloadRepeatsABlockThatArrivesDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, disk := cached(t)
		s.trouble = func(_ context.Context, operation string, n int) error {
			switch {
			case operation == "Get" && n%5 == 0:
				return &corruptError{"flipped"}
			case operation == "Get" && n%5 == 1:
				return &types.RequestThrottledException{}
			}
			return nil
		}
		assertDisk(t, get(t, c, s), disk)
	})
}

func TestAFailedDownloadLeavesNoDisk(t *testing.T) {
	c, s, _ := cached(t)
	s.trouble = func(_ context.Context, operation string, n int) error {
		if operation == "Get" && n == 6 {
			return &types.AccessDeniedException{}
		}
		return nil
	}
	_, _, err := c.Snapshot(t.Context(), &quiet{}, s, "eu-west-1", "snap-base", started)
	if denied := (*types.AccessDeniedException)(nil); !errors.As(err, &denied) {
		t.Fatalf("Get gave %v", err)
	}
	left, err := filepath.Glob(filepath.Join(c.Dir, "*raw*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
