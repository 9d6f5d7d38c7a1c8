package machine

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// metadataAddress is where EC2 has the instance metadata service.
var metadataAddress = netip.MustParseAddr("169.254.169.254")

// maxTokenTTL is the longest life of a session token, in seconds:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html
const maxTokenTTL = 21600

const (
	ttlHeader   = "X-aws-ec2-metadata-token-ttl-seconds"
	tokenHeader = "X-aws-ec2-metadata-token"
)

// version is what a metadata path begins with: "latest", or the date of a version.
var version = regexp.MustCompile(`^(latest|1\.0|20[0-9]{2}-[0-9]{2}-[0-9]{2})$`)

// metadata is the instance metadata service. It knows an instance by the address that a request comes from.
type metadata struct {
	mu        sync.Mutex
	instances map[netip.Addr]Spec
	tokens    map[string]session
}

type session struct {
	instance string // a token is good for the instance that asked for it
	expires  time.Time
}

func newMetadata() *metadata {
	return &metadata{instances: map[netip.Addr]Spec{}, tokens: map[string]session{}}
}

func (m *metadata) add(spec Spec) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.instances[spec.Address] = spec
}

func (m *metadata) remove(spec Spec) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.instances, spec.Address)
	for token, session := range m.tokens {
		if session.instance == spec.ID {
			delete(m.tokens, token)
		}
	}
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	spec, known := m.instance(r.RemoteAddr)
	if !known {
		http.Error(w, "no instance has this address", http.StatusForbidden)
		return
	}
	var options MetadataOptions
	if spec.MetadataOptions != nil {
		options = spec.MetadataOptions() // with nothing locked: it may ask the sandbox
	}
	w.Header().Set("Server", "EC2ws")
	limitHops(r.Context(), 0)
	switch {
	case options.Disabled:
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		limitHops(r.Context(), options.HopLimit)
		m.issue(w, r, spec)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case !m.admits(r.Header.Values(tokenHeader), options, spec):
		w.WriteHeader(http.StatusUnauthorized)
	default:
		read(w, r.URL.Path, spec)
	}
}

func (m *metadata) instance(remote string) (Spec, bool) {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return Spec{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	spec, known := m.instances[from.Addr().Unmap()]
	return spec, known
}

// issue hands out a session token. A request that passed a proxy gets none: that is version 2's
// protection against open proxies.
func (m *metadata) issue(w http.ResponseWriter, r *http.Request, spec Spec) {
	if r.Header.Get("X-Forwarded-For") != "" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > maxTokenTTL {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for token, session := range m.tokens {
		if session.expires.Before(now) {
			delete(m.tokens, token)
		}
	}
	token := rand.Text() + rand.Text()
	m.tokens[token] = session{instance: spec.ID, expires: now.Add(time.Duration(ttl) * time.Second)}
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	write(w, token)
}

// admits tells whether a request may read: with a token that is good, or without one where that is optional.
func (m *metadata) admits(tokens []string, options MetadataOptions, spec Spec) bool {
	if len(tokens) == 0 {
		return options.TokenOptional
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	session, known := m.tokens[tokens[0]]
	return known && session.instance == spec.ID && time.Now().Before(session.expires)
}

// read answers from the instance's own tree, with nothing locked: the tree may ask the sandbox.
func read(w http.ResponseWriter, path string, spec Spec) {
	first, path, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case first == "":
		write(w, "latest")
	case !version.MatchString(first):
		w.WriteHeader(http.StatusNotFound)
	case path == "user-data" && len(spec.UserData) > 0:
		w.Header().Set("Content-Type", "application/octet-stream")
		write(w, string(spec.UserData))
	case path == "user-data" || spec.Metadata == nil:
		w.WriteHeader(http.StatusNotFound)
	default:
		content, found := spec.Metadata(path)
		if !found {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		write(w, content)
	}
}

// write sends a body; an instance that has gone away meanwhile is nobody's error.
func write(w http.ResponseWriter, body string) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "text/plain")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = io.WriteString(w, body)
}
