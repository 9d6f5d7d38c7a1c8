package autoscaling

import (
	"fmt"
	"math"
	"time"

	pages "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// paging is the part of a Describe request that asks for a page.
type paging struct {
	MaxRecords *int
	NextToken  string
}

// cut gives one page of items, which are in the order of their places, and the
// token of the next.
func cut[T any](items []T, asked paging, usual, most int, place func(T) string) ([]T, string, error) {
	size := usual
	if asked.MaxRecords != nil {
		if size = *asked.MaxRecords; size < 1 || size > most {
			return nil, "", invalid("MaxRecords is %d, but must be between 1 and %d", size, most)
		}
	}
	page, next, ok := pages.Cut(items, asked.NextToken, size, place)
	if !ok {
		return nil, "", wire.Errorf("InvalidNextToken", "The token '%s' is invalid.", asked.NextToken)
	}
	return page, next, nil
}

// latestFirst is the place of the nth of what began at some time, in a list in
// which the latest comes first.
func latestFirst(began time.Time, n int) string {
	return fmt.Sprintf("%019d %09d", math.MaxInt64-began.UnixNano(), math.MaxInt32-n)
}
