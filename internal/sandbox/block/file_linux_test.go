package block

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestABlockIsWrittenPastTheCacheOrThroughIt(t *testing.T) {
	for name, hinder := range map[string]func(*writer, []byte) []byte{
		"freely":                    func(_ *writer, data []byte) []byte { return data },
		"while the disk is behind":  func(w *writer, data []byte) []byte { w.writing = nil; return data },
		"where the cache is needed": func(w *writer, data []byte) []byte { w.direct = nil; return data },
		"from memory not on a page": func(_ *writer, data []byte) []byte { return append([]byte{0}, data...)[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "data"))
			if err != nil {
				t.Fatal(err)
			}
			w := newWriter(f)
			defer func() { _, _ = w.close(2*Size), f.Close() }()
			data := hinder(w, filled('a'))
			if err := w.writeAt(data, Size); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, Size)
			if _, err := f.ReadAt(got, Size); err != nil || !bytes.Equal(got, data) {
				t.Errorf("other data was read back (%v)", err)
			}
		})
	}
}
