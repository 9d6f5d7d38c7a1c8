package base

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

type quiet struct{ t *testing.T }

func (q quiet) Say(line string) { q.t.Log(line) }

func (q quiet) TrackProgress(_ string, _, _ int64, r io.ReadCloser) io.ReadCloser { return r }

// raw is a disk with data, holes and a last piece that is not a whole block.
func raw() []byte {
	disk := make([]byte, 3<<20+512)
	rand.New(rand.NewSource(1)).Read(disk[:1<<20])
	copy(disk[3<<20:], "the end")
	return disk
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func pack(t *testing.T, data []byte, packer func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := packer(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func gz(t *testing.T, data []byte) []byte {
	return pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
}

func qcow2(t *testing.T, data []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	if err := os.WriteFile(from, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.FindQemuImg(); err != nil {
		t.Skip(err)
	}
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-O", "qcow2", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	packed, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestADiskImageIsTakenInEveryForm(t *testing.T) {
	for name, form := range map[string]func(t *testing.T) []byte{
		"raw":  func(*testing.T) []byte { return raw() },
		"gzip": func(t *testing.T) []byte { return gz(t, raw()) },
		"zstd": func(t *testing.T) []byte {
			return pack(t, raw(), func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
		},
		"xz": func(t *testing.T) []byte {
			return pack(t, raw(), func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
		},
		"qcow2":         func(t *testing.T) []byte { return qcow2(t, raw()) },
		"qcow2 in gzip": func(t *testing.T) []byte { return gz(t, qcow2(t, raw())) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PACKER_CACHE_DIR", t.TempDir())
			given := form(t)
			path := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(path, given, 0o600); err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if _, err := w.Write(given); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			for _, c := range []Config{
				{SourceImage: path},
				{SourceImage: path, SourceChecksum: "sha256:" + strings.ToUpper(digest(given))},
				{SourceImage: server.URL + "/disk", SourceChecksum: digest(given)},
			} {
				got, err := c.Fetch(t.Context(), quiet{t}, Wish{})
				if err != nil {
					t.Fatal(err)
				}
				data, err := os.ReadFile(got.Path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(data, raw()) || got.Size != int64(len(data)) {
					t.Errorf("%s became a disk of %d bytes that is another", c.SourceImage, got.Size)
				}
			}
		})
	}
}

func TestADownloadedImageIsUsedAgain(t *testing.T) {
	t.Setenv("PACKER_CACHE_DIR", t.TempDir())
	given, requests := gz(t, raw()), 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		if _, err := w.Write(given); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	for range 2 {
		if _, err := (Config{SourceImage: server.URL, SourceChecksum: digest(given)}).Fetch(t.Context(), quiet{t}, Wish{}); err != nil {
			t.Fatal(err)
		}
	}
	if requests != 1 {
		t.Errorf("it was downloaded %d times", requests)
	}
}

func TestALocalImageThatIsAnotherNowIsReadAnew(t *testing.T) {
	t.Setenv("PACKER_CACHE_DIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "disk.gz")
	for _, mark := range []string{"first", "other"} {
		data := raw()
		copy(data, mark)
		if err := os.WriteFile(path, gz(t, data), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := (Config{SourceImage: path}).Fetch(t.Context(), quiet{t}, Wish{})
		if err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(got.Path); err != nil || !bytes.Equal(is, data) {
			t.Errorf("the disk is not the %s one: %v", mark, err)
		}
	}
}

func TestAnImageThatIsNotWhatWasMeantIsRefused(t *testing.T) {
	whole := gz(t, raw())
	for name, c := range map[string]struct {
		given    []byte
		status   int
		checksum string
		wants    string
	}{
		"another checksum":     {whole, 200, digest([]byte("another")), "source_checksum is"},
		"cut off":              {whole[:len(whole)/2], 200, digest(whole), "unexpected EOF"},
		"not there":            {nil, 404, digest(whole), "404 Not Found"},
		"no image, but a page": {[]byte("<html>"), 200, digest([]byte("<html>")), "no disk image"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			t.Setenv("PACKER_CACHE_DIR", cache)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				if _, err := w.Write(c.given); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			_, err := (Config{SourceImage: server.URL, SourceChecksum: c.checksum}).Fetch(t.Context(), quiet{t}, Wish{})
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("Fetch gave %v, want %q", err, c.wants)
			}
			left, err := filepath.Glob(filepath.Join(cache, "immutable", "base", "*.raw*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

func TestAnInterruptEndsTheReadingOfAnImage(t *testing.T) {
	t.Setenv("PACKER_CACHE_DIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "disk.gz")
	if err := os.WriteFile(path, gz(t, raw()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Config{SourceImage: path}).Fetch(ctx, quiet{t}, Wish{}); err == nil {
		t.Error("it went on")
	}
}
