package balancer

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

func TestARequestWhoseConnectionIsCutIsNotSentAgain(t *testing.T) {
	for _, test := range []struct {
		method string
		header http.Header
	}{
		{http.MethodGet, nil},
		{http.MethodHead, nil},
		{http.MethodOptions, nil},
		{http.MethodPost, http.Header{"Idempotency-Key": {"1"}}},
		{http.MethodDelete, http.Header{"X-Idempotency-Key": {"1"}}},
	} {
		t.Run(test.method, func(t *testing.T) {
			l := newLab(t, "HTTP")
			var hits, length atomic.Int64
			var key atomic.Value
			var first, last atomic.Value // the connections, by the balancer's end
			l.add("webs", "i-1", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/health" {
					return
				}
				if hits.Add(1) == 1 {
					first.Store(r.RemoteAddr)
					return
				}
				last.Store(r.RemoteAddr)
				key.Store(r.Header.Get("Idempotency-Key") + r.Header.Get("X-Idempotency-Key"))
				length.Store(r.ContentLength)
				panic(http.ErrAbortHandler)
			})
			for n, want := range []int{http.StatusOK, http.StatusBadGateway} {
				response := l.request(test.method, test.header.Clone())
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("request %d is answered with %d, want %d", n+1, response.StatusCode, want)
				}
			}
			if got := hits.Load(); got != 2 {
				t.Errorf("the target was hit %d times by 2 requests", got)
			}
			if first.Load() != last.Load() {
				t.Errorf("the second request came over the connection %v, the first over %v", last.Load(), first.Load())
			}
			if want := test.header.Get("Idempotency-Key") + test.header.Get("X-Idempotency-Key"); key.Load() != want || length.Load() != 0 {
				t.Errorf("the target saw the key %q and a body of %d bytes, want %q and none", key.Load(), length.Load(), want)
			}
		})
	}
}

func TestTraceIsNotAllowed(t *testing.T) {
	l := newLab(t, "HTTP")
	if response := l.request(http.MethodTrace, nil); response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("answered with %d", response.StatusCode)
	}
}
