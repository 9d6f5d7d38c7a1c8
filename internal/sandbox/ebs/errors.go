package ebs

import (
	"net/http"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Reasons of a ValidationException.
const (
	invalidSnapshot   = "INVALID_SNAPSHOT_ID"
	invalidBlock      = "INVALID_BLOCK"
	invalidBlockToken = "INVALID_BLOCK_TOKEN"
	invalidPageToken  = "INVALID_PAGE_TOKEN"
	invalidParameter  = "INVALID_PARAMETER_VALUE"
	invalidSize       = "INVALID_VOLUME_SIZE"
	invalidDependency = "INVALID_DEPENDENCY_REQUEST"
	invalidTag        = "INVALID_TAG"
	invalidKey        = "INVALID_CUSTOMER_KEY"
	unrelated         = "UNRELATED_SNAPSHOTS"
)

func invalid(reason, format string, args ...any) error {
	return wire.Errorf("ValidationException", format, args...).Because(reason)
}

func errNoSnapshot(id string) error {
	return wire.Errorf("ResourceNotFoundException", "The snapshot '%s' does not exist.", id).With(http.StatusNotFound).Because("SNAPSHOT_NOT_FOUND")
}

func errOtherAccount(id string) error {
	return wire.Errorf("AccessDeniedException", "The snapshot '%s' belongs to another account; copy it first", id).With(http.StatusForbidden).Because("UNAUTHORIZED_ACCOUNT")
}

func errNoKey(id, key string) error {
	return wire.Errorf("AccessDeniedException", "The snapshot '%s' is encrypted with the key '%s', which this account can't use", id, key).With(http.StatusForbidden).Because("DEPENDENCY_ACCESS_DENIED")
}
