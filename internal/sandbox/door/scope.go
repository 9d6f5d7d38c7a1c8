package door

import (
	"net"
	"net/http"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// scope is what a request's signature says about it.
type scope struct {
	accessKey string
	region    string
	service   string
}

// credentialScope reads the scope of a SigV4 signature. The signature itself is
// not verified: any credentials will do. It must be in a header, because a
// header is what a web page can't make a browser send to the sandbox.
func credentialScope(r *http.Request) (scope, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return scope{}, wire.Errorf("MissingAuthenticationToken", "Request is missing Authentication Token").With(http.StatusForbidden)
	}
	parameters, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return scope{}, incomplete("Authorization is not an AWS4-HMAC-SHA256 signature")
	}
	credential := ""
	for parameter := range strings.SplitSeq(parameters, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(parameter), "Credential="); ok {
			credential = value
		}
	}
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[0] == "" || parts[4] != "aws4_request" {
		return scope{}, incomplete("Credential must be KEY/DATE/REGION/SERVICE/aws4_request")
	}
	if !api.IsRegion(parts[2]) {
		return scope{}, wire.Errorf("SignatureDoesNotMatch", "Credential should be scoped to a valid region, not '%s'", parts[2]).With(http.StatusForbidden)
	}
	return scope{accessKey: parts[0], region: parts[2], service: parts[3]}, nil
}

// checkHost refuses requests for another host than this one, which a web page
// can make a browser send by giving its own name this host's address.
func checkHost(r *http.Request) error {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil && ip.IsLoopback() {
		return nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil
	}
	return wire.Errorf("InvalidHost", "The sandbox serves this host only, not %s", host).With(http.StatusForbidden)
}

func incomplete(why string) error {
	return wire.Errorf("IncompleteSignature", "%s", why)
}
