package ec2

import (
	"math"

	pages "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
)

// paging is the part of a Describe request that asks for a page.
type paging struct {
	MaxResults *int
	NextToken  string
}

// pageRange is the least and most items that a page of an operation may have.
type pageRange struct{ least, most int }

// bounds gives the place after which the page begins, "" for the first, and
// how many items it may have at the most.
func (p paging) bounds(within pageRange) (after string, size int, err error) {
	after, ok := pages.After(p.NextToken)
	if !ok {
		return "", 0, fail("InvalidNextToken", "The token '%s' is invalid", p.NextToken)
	}
	if p.MaxResults == nil {
		return after, math.MaxInt, nil
	}
	if *p.MaxResults < within.least {
		return "", 0, fail("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than or equal to %d.", *p.MaxResults, within.least)
	}
	return after, min(*p.MaxResults, within.most), nil
}

// atMost refuses more items on a page than an operation gives. Other operations
// give as many as they do.
func (p paging) atMost(most int) error {
	if p.MaxResults != nil && *p.MaxResults > most {
		return fail("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value less than or equal to %d.", *p.MaxResults, most)
	}
	return nil
}

// cut gives one page of items and the token of the next.
func cut[T any](items []T, asked paging, within pageRange, place func(T) string) ([]T, string, error) {
	_, size, err := asked.bounds(within)
	if err != nil {
		return nil, "", err
	}
	page, next, _ := pages.Cut(items, asked.NextToken, size, place)
	return page, next, nil
}

// noPageWith refuses a page of things that were asked for by id.
func (p paging) noPageWith(ids []string, parameter string) error {
	if p.MaxResults != nil && len(ids) > 0 {
		return fail("InvalidParameterCombination", "The parameter %s cannot be used with the parameter maxResults", parameter)
	}
	return nil
}
