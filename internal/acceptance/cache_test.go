package acceptance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// one gives the only file of a pattern.
func one(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("files %s: %v (%v), want one", pattern, files, err)
	}
	return files[0]
}

// overwrite changes bytes of a file in place.
func overwrite(t *testing.T, path string, offset int64, change func([]byte)) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	some := make([]byte, 64)
	_, err = file.ReadAt(some, offset)
	change(some)
	_, written := file.WriteAt(some, offset)
	if err := errors.Join(err, written, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedCache damages the cached base between builds. No damage gets into
// an AMI: what the builds leave alone is as it is in the base.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	h := newTheatre(t)
	args := func(name string) []string {
		return []string{"build", "-var", "name=" + name, templateFile(t, bakeNoise)}
	}
	first := h.blocksOf(t, h.bake(t, args("undamaged")))
	snapshot, err := h.box.BaseSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	base, err := h.box.SnapshotBlocks(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	// A block of the base that a bake does not touch is worth damaging.
	untouched := int32(-1)
	for index, digest := range base {
		if first[index] == digest {
			untouched = max(untouched, index)
		}
	}
	if untouched < 0 {
		t.Fatal("the bake has changed every block")
	}
	disk, index := filepath.Join(h.Cache, "immutable/base/*.raw"), filepath.Join(h.Cache, "immutable/base/*.index")
	for _, damage := range sample([]struct {
		name string
		do   func(t *testing.T)
	}{
		{"bits flipped", func(t *testing.T) {
			overwrite(t, one(t, disk), int64(untouched)*rehearsal.BlockSize+4711, func(b []byte) { b[0] ^= 1 })
		}},
		{"truncated", func(t *testing.T) {
			if err := os.Truncate(one(t, disk), int64(untouched)*rehearsal.BlockSize); err != nil {
				t.Fatal(err)
			}
		}},
		{"truncated and filled up", func(t *testing.T) {
			path := one(t, disk)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Truncate(path, int64(untouched)*rehearsal.BlockSize), os.Truncate(path, info.Size())); err != nil {
				t.Fatal(err)
			}
		}},
		{"a digest changed", func(t *testing.T) {
			overwrite(t, one(t, index), 1000, func(b []byte) { b[0] ^= 1 })
		}},
		{"index of garbage", func(t *testing.T) {
			overwrite(t, one(t, index), 0, func(b []byte) { copy(b, "garbage\n") })
		}},
		{"no index", func(t *testing.T) {
			if err := os.Remove(one(t, index)); err != nil {
				t.Fatal(err)
			}
		}},
		{"no disk", func(t *testing.T) {
			if err := os.Remove(one(t, disk)); err != nil {
				t.Fatal(err)
			}
		}},
	}, 1) {
		t.Run(damage.name, func(t *testing.T) {
			sayHowToRepeat(t)
			before := len(h.calls(t))
			damage.do(t)
			made := h.blocksOf(t, h.bake(t, args("damaged-"+strings.ReplaceAll(damage.name, " ", "-"))))
			if made[untouched] != base[untouched] {
				t.Errorf("block %d of the AMI is not the base's", untouched)
			}
			if n := h.downloaded(t, before); n < len(base) {
				t.Errorf("%d blocks were downloaded, want all %d", n, len(base))
			}
		})
	}
}

// blocksOf are those of an AMI's root.
func (h *theatre) blocksOf(t *testing.T, ami string) rehearsal.Blocks {
	t.Helper()
	snapshot, err := h.box.RootSnapshot(t.Context(), ami)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := h.box.SnapshotBlocks(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

// downloaded counts the blocks that the builder has read since a call.
func (h *theatre) downloaded(t *testing.T, since int) (count int) {
	t.Helper()
	for _, call := range h.calls(t)[since:] {
		if call.Operation == "GetSnapshotBlock" && call.Principal == "AKIADIRECT" && call.Error == "" {
			count++
		}
	}
	return count
}

// TestTwoBuildsShareACache starts two builds at once that have no base yet: it
// is copied once and downloaded once, and each AMI is what its build baked.
func TestTwoBuildsShareACache(t *testing.T) {
	t.Parallel()
	h := newTheatre(t)
	kept := t.TempDir()
	var builds errgroup.Group
	outputs := make([]rehearsal.Output, 2)
	for i := range outputs {
		builds.Go(func() (err error) {
			outputs[i], err = h.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: h.box.Environ("AKIAOTHER"),
				Args: []string{"build", "-var", fmt.Sprintf("name=shared-%d", i), templateFile(t, bakeNoise)},
				EachLine: func(line string, _ *exec.Cmd) {
					if rehearsal.Comparing(line) {
						if err := h.KeepWorkingDisks(kept); err != nil {
							t.Error(err)
						}
					}
				},
			})
			return err
		})
	}
	if err := builds.Wait(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, outputs[0], outputs[1])
	}
	// What a build works on is its own, under whichever name it was kept.
	disks, err := filepath.Glob(filepath.Join(kept, "*"))
	if err != nil || len(disks) != 2 {
		t.Fatalf("kept %v (%v), want two disks", disks, err)
	}
	baked := map[string]bool{}
	for _, output := range outputs {
		made := h.blocksOf(t, amiIn(t, output))
		for _, path := range disks {
			disk, err := rehearsal.DiskBlocks(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(made.Differing(disk)) == 0 {
				baked[path] = true
			}
		}
	}
	if len(baked) != 2 {
		t.Errorf("the AMIs are those of the disks %v, want two", baked)
	}
	snapshot, err := h.box.BaseSnapshot(t.Context()) // fails where there is more than one copy
	if err != nil {
		t.Fatal(err)
	}
	base, err := h.box.SnapshotBlocks(t.Context(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if n := h.downloaded(t, 0); n != len(base) {
		t.Errorf("%d blocks were downloaded, want each of the %d once", n, len(base))
	}
}
