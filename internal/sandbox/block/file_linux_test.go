package block

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestWritesWithAndWithoutTheCache(t *testing.T) {
	for name, cached := range map[string]bool{"past the cache, where the kernel can": false, "through the cache": true} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "data"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			var w writer
			w.cached.Store(cached)
			want := filled('a')
			if err := w.writeAt(f, want, Size); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, Size)
			if _, err := f.ReadAt(got, Size); err != nil || !bytes.Equal(got, want) {
				t.Errorf("other data was read back (%v)", err)
			}
		})
	}
}
