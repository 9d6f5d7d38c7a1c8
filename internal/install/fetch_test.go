package install

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// quiet is a Ui that keeps what it is told.
type quiet struct{ said []string }

func (q *quiet) Say(line string) { q.said = append(q.said, line) }

func (q *quiet) TrackProgress(_ string, _, _ int64, stream io.ReadCloser) io.ReadCloser {
	return stream
}

// answers is a transport without a network: one function an attempt.
type answers []func(*http.Request) (*http.Response, error)

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	next := (*a)[0]
	*a = (*a)[1:]
	return next(r)
}

func answer(status int, body io.Reader) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(body), ContentLength: -1, Request: r}, nil
	}
}

func fetchWith(t *testing.T, transport http.RoundTripper, address string) (content string, ui *quiet, err error) {
	t.Helper()
	before := client.Transport
	client.Transport = transport
	defer func() { client.Transport = before }()
	sources, err := parse(address)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "0.rpm")
	ui = new(quiet)
	err = new(Plan).fetch(t.Context(), sources[0], path, ui)
	text, _ := os.ReadFile(path)
	return string(text), ui, err
}

const secretAddress = "https://user:password@example.com/a.rpm?signature=secret"

func noSecret(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(text, "secret") || strings.Contains(text, "password") {
			t.Errorf("a secret is told: %s", text)
		}
	}
}

func TestFetchTriesAgainAfterAPassingFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		a := answers{
			answer(503, strings.NewReader("")),
			func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") },
			answer(200, io.MultiReader(strings.NewReader("half"), failing{})),
			answer(200, strings.NewReader("whole")),
		}
		content, ui, err := fetchWith(t, &a, secretAddress)
		if err != nil || content != "whole" || len(ui.said) != 3 {
			t.Errorf("fetched %q, %v, %q", content, err, ui.said)
		}
		if waited := time.Since(begun); waited != 7*time.Second {
			t.Errorf("waited %s in all, want 1 s + 2 s + 4 s", waited)
		}
		noSecret(t, ui.said...)
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestFetchGivesUp(t *testing.T) {
	for name, test := range map[string]struct {
		answers answers
		want    string
	}{
		"not there": {answers{answer(404, strings.NewReader(""))}, "fetch https://example.com/a.rpm: the server answered 404 Not Found"},
		"S3's reason": {answers{answer(403, strings.NewReader("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"))},
			"403 Forbidden: AccessDenied: Access Denied"},
		"never well": {answers{answer(500, http.NoBody), answer(500, http.NoBody), answer(500, http.NoBody), answer(500, http.NoBody)}, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, ui, err := fetchWith(t, &test.answers, secretAddress)
				if err == nil || !strings.Contains(err.Error(), test.want) || len(test.answers) != 0 {
					t.Fatalf("gave %v, with %d answers left", err, len(test.answers))
				}
				noSecret(t, append(ui.said, err.Error())...)
			})
		})
	}
}

func TestFetchEndsATransferThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		a := answers{hang, answer(200, strings.NewReader("content"))}
		content, _, err := fetchWith(t, &a, secretAddress)
		if err != nil || content != "content" {
			t.Errorf("fetched %q, %v", content, err)
		}
	})
}

func TestFetchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hang := func(r *http.Request) (*http.Response, error) {
			cancel()
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		before := client.Transport
		client.Transport = &answers{hang}
		defer func() { client.Transport = before }()
		sources, err := parse(secretAddress)
		if err != nil {
			t.Fatal(err)
		}
		if err := new(Plan).fetch(ctx, sources[0], filepath.Join(t.TempDir(), "x"), new(quiet)); !errors.Is(err, context.Canceled) {
			t.Errorf("fetch gave %v", err)
		}
	})
}

func TestFetchRefusesRedirectsAwayFromHTTPS(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	_, _, err := fetchWith(t, secure.Client().Transport, secure.URL+"/a.rpm")
	if err == nil || !strings.Contains(err.Error(), "not https") {
		t.Errorf("fetch gave %v", err)
	}
}
