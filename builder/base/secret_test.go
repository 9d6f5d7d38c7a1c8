package base

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// heard keeps what is said.
type heard struct{ lines []string }

func (h *heard) Say(line string) { h.lines = append(h.lines, line) }

func (h *heard) TrackProgress(what string, _, _ int64, r io.ReadCloser) io.ReadCloser {
	h.Say(what)
	return r
}

func TestTheSecretsOfAURLAreNotShown(t *testing.T) {
	given := gz(t, raw())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if _, err := w.Write(given); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	secret := func(base string) string {
		return strings.Replace(base, "://", "://user:s3cret@", 1) + "?X-Amz-Signature=s3cret#s3cret"
	}
	for name, test := range map[string]struct{ url, checksum string }{
		"it is fetched":           {secret(server.URL + "/disk.gz"), digest(given)},
		"the server refuses":      {secret(server.URL + "/missing"), digest(given)},
		"no server answers":       {secret(gone.URL + "/disk.gz"), digest(given)},
		"it has another checksum": {secret(server.URL + "/disk.gz"), digest(nil)},
		"no checksum":             {secret(server.URL + "/disk.gz"), ""},
		"another scheme":          {secret("ftp://localhost/disk.gz"), digest(given)},
		"malformed":               {secret("https://localhost/%zz"), digest(given)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PACKER_CACHE_DIR", t.TempDir())
			ui, c := &heard{}, Config{SourceImage: test.url, SourceChecksum: test.checksum}
			for _, err := range c.Prepare() {
				ui.Say(err.Error())
			}
			ui.Say((&Work{Config: c}).baseName())
			if _, err := c.Fetch(t.Context(), ui, Wish{}); err != nil {
				ui.Say(err.Error())
			}
			if all := strings.Join(ui.lines, "\n"); strings.Contains(all, "s3cret") {
				t.Error(all)
			}
		})
	}
}

func TestAPresignedURLThatIsAnotherIsNotDownloadedAgain(t *testing.T) {
	t.Setenv("PACKER_CACHE_DIR", t.TempDir())
	given, requests := gz(t, raw()), 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		if _, err := w.Write(given); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	for _, query := range []string{"?signature=1", "?signature=2"} {
		c := Config{SourceImage: server.URL + "/disk.gz" + query, SourceChecksum: digest(given)}
		if _, err := c.Fetch(t.Context(), &heard{}, Wish{}); err != nil {
			t.Fatal(err)
		}
	}
	if requests != 1 {
		t.Errorf("it was downloaded %d times", requests)
	}
}
