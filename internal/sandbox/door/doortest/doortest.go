// Package doortest serves services of the sandbox to AWS's own clients in
// tests.
package doortest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// Region is the region of Serve's clients.
const Region = "eu-west-1"

// AccessKey is the access key of Serve's clients.
const AccessKey = "AKIATEST"

// Books opens books in a directory of the test's.
func Books(t testing.TB) *state.Books {
	t.Helper()
	books, err := state.Open(t.TempDir(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := books.Close(); err != nil {
			t.Error(err)
		}
	})
	return books
}

// Clock makes an instant clock that is stopped when the test ends.
func Clock(t testing.TB) *clock.Clock {
	t.Helper()
	c, err := clock.New(clock.Instant, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Serve serves the services until the test ends, and gives the configuration
// of clients, which do not retry.
func Serve(t testing.TB, books *state.Books, clock *clock.Clock, services ...*api.Service) aws.Config {
	t.Helper()
	return Config(Server(t, books, clock, services...))
}

// Server serves the services until the test ends.
func Server(t testing.TB, books *state.Books, clock *clock.Clock, services ...*api.Service) *httptest.Server {
	t.Helper()
	return ServerOf(t, door.Config{Books: books, Clock: clock, Services: services})
}

// ServerOf serves a door until the test ends. One without a guard of its own sees
// to it that handlers note what they need before they change anything.
func ServerOf(t testing.TB, config door.Config) *httptest.Server {
	t.Helper()
	if _, measured := t.(*testing.B); config.Guard == nil && !measured {
		config.Guard = witness{t, config.Books}
	}
	server := httptest.NewServer(door.New(config))
	t.Cleanup(server.Close)
	return server
}

// Config is the configuration of a server's clients, which do not retry.
func Config(server *httptest.Server) aws.Config {
	return aws.Config{
		Region: Region, BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		HTTPClient:  &http.Client{Transport: patient{server.Client().Transport}},
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, "secret", ""),
	}
}

// patient sends requests whose bodies can only be read. The bodies of AWS's
// clients can also write themselves, and do so with an error when the answer
// comes before the transport has found that the body is at its end: the
// connection is then closed, and what was not yet read of the answer is lost.
// Clients that retry do not notice; these do not retry.
type patient struct{ http.RoundTripper }

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.Clone(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.RoundTripper.RoundTrip(r)
}
