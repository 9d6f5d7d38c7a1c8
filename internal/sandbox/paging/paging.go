// Package paging gives lists in pages.
//
// Items have places, which are in the items' order. A token holds the place of
// the last item that was given rather than a number of items, so that nothing is
// skipped or repeated, and no token goes stale, when items come and go between
// two pages.
package paging

import (
	"encoding/base64"
	"sort"
	"strings"
)

// prefix tells tokens from other texts in base64.
const prefix = "after:"

// Token is for the page that begins after a place.
func Token(place string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(prefix + place))
}

// After gives the place that a token's page begins after; "" for no token, whose
// page is the first. It is false for what is no token.
func After(token string) (place string, ok bool) {
	if token == "" {
		return "", true
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	place, ok = strings.CutPrefix(string(text), prefix)
	return place, ok && err == nil
}

// Cut gives a page of at most size items, which are in the order of their
// places, and the token of the next page, "" after the last. It is false for
// what is no token.
func Cut[T any](items []T, token string, size int, place func(T) string) (page []T, next string, ok bool) {
	after, ok := After(token)
	if !ok {
		return nil, "", false
	}
	items = items[sort.Search(len(items), func(i int) bool { return place(items[i]) > after }):]
	if len(items) <= size {
		return items, "", true
	}
	items = items[:size]
	return items, Token(place(items[size-1])), true
}
