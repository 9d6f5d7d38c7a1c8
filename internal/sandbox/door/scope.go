package door

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// scope is what a request's signature says about it.
type scope struct {
	accessKey string
	region    string
	service   string
}

// regionName keeps regions to what may be a folder's name.
var regionName = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)+-[0-9]{1,2}$`)

// credentialScope reads the scope of a SigV4 signature, in the header or in
// the URL. The signature itself is not verified: any credentials will do.
func credentialScope(r *http.Request) (scope, error) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if header := r.Header.Get("Authorization"); header != "" {
		parameters, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
		if !ok {
			return scope{}, incomplete("Authorization is not an AWS4-HMAC-SHA256 signature")
		}
		for parameter := range strings.SplitSeq(parameters, ",") {
			if value, ok := strings.CutPrefix(strings.TrimSpace(parameter), "Credential="); ok {
				credential = value
			}
		}
	} else if credential == "" {
		return scope{}, wire.Errorf("MissingAuthenticationToken", "Request is missing Authentication Token").With(http.StatusForbidden)
	}
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[0] == "" || parts[4] != "aws4_request" {
		return scope{}, incomplete("Credential must be KEY/DATE/REGION/SERVICE/aws4_request")
	}
	if !regionName.MatchString(parts[2]) {
		return scope{}, wire.Errorf("SignatureDoesNotMatch", "Credential should be scoped to a valid region, not '%s'", parts[2]).With(http.StatusForbidden)
	}
	return scope{accessKey: parts[0], region: parts[2], service: parts[3]}, nil
}

func incomplete(why string) error {
	return wire.Errorf("IncompleteSignature", "%s", why)
}
