package ec2

import (
	"encoding/base64"
	"math"
	"sort"
	"strings"
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
//
// Items have places, which are in their order. A token holds the place of the
// last item that was given rather than a number of items, so that nothing is
// skipped or repeated when items come and go between two pages.
func (p paging) bounds(within pageRange) (after string, size int, err error) {
	if p.NextToken != "" {
		if after, err = readToken(p.NextToken); err != nil {
			return "", 0, err
		}
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
	after, size, err := asked.bounds(within)
	if err != nil {
		return nil, "", err
	}
	items = items[sort.Search(len(items), func(i int) bool { return place(items[i]) > after }):]
	if len(items) <= size {
		return items, "", nil
	}
	items = items[:size]
	return items, writeToken(place(items[size-1])), nil
}

// noPageWith refuses a page of things that were asked for by id.
func (p paging) noPageWith(ids []string, parameter string) error {
	if p.MaxResults != nil && len(ids) > 0 {
		return fail("InvalidParameterCombination", "The parameter %s cannot be used with the parameter maxResults", parameter)
	}
	return nil
}

const tokenPrefix = "after:"

func writeToken(place string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(tokenPrefix + place))
}

func readToken(token string) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	place, ok := strings.CutPrefix(string(text), tokenPrefix)
	if err != nil || !ok {
		return "", fail("InvalidNextToken", "The token '%s' is invalid", token)
	}
	return place, nil
}
