package autoscaling

import (
	"encoding/base64"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// paging is the part of a Describe request that asks for a page.
type paging struct {
	MaxRecords *int
	NextToken  string
}

// cut gives one page of items and the token of the next. A token names the last
// item that was given, so that new ones do not shift the others.
func cut[T any](items []T, asked paging, usual, most int, key func(T) string) ([]T, string, error) {
	size := usual
	if asked.MaxRecords != nil {
		if size = *asked.MaxRecords; size < 1 || size > most {
			return nil, "", invalid("MaxRecords is %d, but must be between 1 and %d", size, most)
		}
	}
	if asked.NextToken != "" {
		last, err := base64.RawURLEncoding.DecodeString(asked.NextToken)
		i := slices.IndexFunc(items, func(t T) bool { return key(t) == string(last) })
		if err != nil || i < 0 {
			return nil, "", wire.Errorf("InvalidNextToken", "The token '%s' is invalid.", asked.NextToken)
		}
		items = items[i+1:]
	}
	if len(items) <= size {
		return items, "", nil
	}
	items = items[:size]
	return items, base64.RawURLEncoding.EncodeToString([]byte(key(items[size-1]))), nil
}
