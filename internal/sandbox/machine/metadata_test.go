package machine

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// newTestMetadata serves one instance, i-1 at 172.31.0.10, and another that has no user data.
func newTestMetadata() *metadata {
	m := newMetadata()
	m.add(Spec{
		ID:       "i-1",
		Address:  netip.MustParseAddr("172.31.0.10"),
		UserData: []byte("#!/bin/sh\n"),
		Metadata: Tree(map[string]string{"meta-data/instance-id": "i-1"}),
	})
	m.add(Spec{ID: "i-2", Address: netip.MustParseAddr("172.31.0.11")})
	return m
}

func ask(m *metadata, from, method, path string, header ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, nil)
	request.RemoteAddr = from + ":40000"
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	m.ServeHTTP(answer, request)
	return answer
}

func token(m *metadata, from, ttl string) string {
	return ask(m, from, http.MethodPut, "/latest/api/token", ttlHeader, ttl).Body.String()
}

func TestMetadataIsReadWithAToken(t *testing.T) {
	m := newTestMetadata()
	key := token(m, "172.31.0.10", "60")
	for path, want := range map[string]string{
		"/latest/meta-data/instance-id":     "i-1",
		"/2021-03-23/meta-data/instance-id": "i-1",
		"/latest/meta-data/":                "instance-id",
		"/latest/user-data":                 "#!/bin/sh\n",
		"/":                                 "latest",
	} {
		if got := ask(m, "172.31.0.10", http.MethodGet, path, tokenHeader, key); got.Code != http.StatusOK || got.Body.String() != want {
			t.Errorf("GET %s: %d %q, want 200 %q", path, got.Code, got.Body, want)
		}
	}
}

func TestMetadataRefuses(t *testing.T) {
	m := newTestMetadata()
	key, other := token(m, "172.31.0.10", "60"), token(m, "172.31.0.11", "60")
	for _, test := range []struct {
		name, from, method, path string
		header                   []string
		want                     int
	}{
		{"no token", "172.31.0.10", "GET", "/latest/meta-data/instance-id", nil, 401},
		{"a token that was never issued", "172.31.0.10", "GET", "/latest/meta-data/", []string{tokenHeader, "x"}, 401},
		{"another instance's token", "172.31.0.10", "GET", "/latest/meta-data/", []string{tokenHeader, other}, 401},
		{"an address of no instance", "172.31.0.12", "PUT", "/latest/api/token", []string{ttlHeader, "60"}, 403},
		{"a token without a life", "172.31.0.10", "PUT", "/latest/api/token", nil, 400},
		{"a token that lives too long", "172.31.0.10", "PUT", "/latest/api/token", []string{ttlHeader, "21601"}, 400},
		{"a token through a proxy", "172.31.0.10", "PUT", "/latest/api/token", []string{ttlHeader, "60", "X-Forwarded-For", "1.2.3.4"}, 403},
		{"what is not there", "172.31.0.10", "GET", "/latest/meta-data/nothing", []string{tokenHeader, key}, 404},
		{"a version that is none", "172.31.0.10", "GET", "/newest/meta-data/", []string{tokenHeader, key}, 404},
		{"user data that is not there", "172.31.0.11", "GET", "/latest/user-data", []string{tokenHeader, other}, 404},
		{"a write", "172.31.0.10", "POST", "/latest/meta-data/", []string{tokenHeader, key}, 405},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ask(m, test.from, test.method, test.path, test.header...); got.Code != test.want {
				t.Errorf("answers %d, want %d", got.Code, test.want)
			}
		})
	}
}

func TestMetadataTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestMetadata()
		key := token(m, "172.31.0.10", "60")
		time.Sleep(60 * time.Second)
		if got := ask(m, "172.31.0.10", http.MethodGet, "/latest/meta-data/", tokenHeader, key); got.Code != http.StatusUnauthorized {
			t.Errorf("after its life the token is answered with %d, want 401", got.Code)
		}
	})
}

func TestMetadataTokenEndsWithItsInstance(t *testing.T) {
	m := newTestMetadata()
	key := token(m, "172.31.0.10", "60")
	spec := m.instances[netip.MustParseAddr("172.31.0.10")]
	m.remove(spec)
	spec.ID = "i-3"
	m.add(spec)
	if got := ask(m, "172.31.0.10", http.MethodGet, "/latest/meta-data/", tokenHeader, key); got.Code != http.StatusUnauthorized {
		t.Errorf("the next instance with the address may use the token: %d, want 401", got.Code)
	}
}

func TestMetadataOptions(t *testing.T) {
	m := newTestMetadata()
	address := netip.MustParseAddr("172.31.0.10")
	spec := m.instances[address]
	var options MetadataOptions
	spec.MetadataOptions = func() MetadataOptions { return options }
	m.add(spec)
	good := token(m, "172.31.0.10", "60")
	for _, test := range []struct {
		name    string
		options MetadataOptions
		method  string
		header  []string
		want    int
	}{
		{"version 1, which is off", MetadataOptions{}, "GET", nil, 401},
		{"version 1, which is on", MetadataOptions{TokenOptional: true}, "GET", nil, 200},
		{"version 1 with a bad token", MetadataOptions{TokenOptional: true}, "GET", []string{tokenHeader, "x"}, 401},
		{"version 1 with an empty token", MetadataOptions{TokenOptional: true}, "GET", []string{tokenHeader, ""}, 401},
		{"version 2 where version 1 is on", MetadataOptions{TokenOptional: true}, "GET", []string{tokenHeader, good}, 200},
		{"a good token, but it is disabled", MetadataOptions{Disabled: true}, "GET", []string{tokenHeader, good}, 403},
		{"version 1, but it is disabled", MetadataOptions{Disabled: true, TokenOptional: true}, "GET", nil, 403},
	} {
		options = test.options
		if got := ask(m, "172.31.0.10", test.method, "/latest/meta-data/instance-id", test.header...); got.Code != test.want {
			t.Errorf("%s: %d, want %d", test.name, got.Code, test.want)
		}
	}
	if got := ask(m, "172.31.0.10", http.MethodPut, "/latest/api/token", ttlHeader, "60"); got.Code != http.StatusForbidden {
		t.Errorf("a disabled service is asked for a token: %d, want 403", got.Code)
	}
}
