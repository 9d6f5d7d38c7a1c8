package door

import (
	"net/http"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/session"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// checkSession refuses temporary credentials of the sandbox's own that have
// expired, or that are not used together. Others may be anything.
func (v *visit) checkSession() error {
	s, ours, err := session.Read(v.http.Header.Get("X-Amz-Security-Token"))
	switch {
	case !ours:
		return nil
	case err != nil, s.Key != v.Principal:
		return wire.Errorf("InvalidClientTokenId", "The security token included in the request is invalid").With(http.StatusForbidden)
	case v.Now.After(s.Expires):
		return expired(v.Service)
	}
	v.Session = &s
	return nil
}

// expired is how a service says that temporary credentials have: EC2 by
// RequestExpired (https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html),
// the query services by ExpiredToken and those with JSON by
// ExpiredTokenException (their pages of common errors).
func expired(service string) error {
	const message = "The security token included in the request is expired"
	switch service {
	case "ec2":
		return wire.Errorf("RequestExpired", "Request has expired.")
	case "ebs", "ssm", "ec2-instance-connect":
		return wire.Errorf("ExpiredTokenException", message).With(http.StatusForbidden)
	}
	return wire.Errorf("ExpiredToken", message).With(http.StatusForbidden)
}
