package elbv2

import (
	"cmp"
	"encoding/base64"
	"maps"
	"slices"
)

// paging is the part of a Describe request that asks for a page.
type paging struct {
	Marker   string
	PageSize *int
}

// The size of a page: the most, which is also the default.
const maxPage = 400

// cut gives one page of items and the marker of the next, which names the last
// item that was given.
func cut[T any](items []T, asked paging, key func(T) string) ([]T, string, error) {
	size := maxPage
	if asked.PageSize != nil {
		if size = *asked.PageSize; size < 1 || size > maxPage {
			return nil, "", invalid("PageSize is %d, but must be between 1 and %d", size, maxPage)
		}
	}
	if asked.Marker != "" {
		last, err := base64.RawURLEncoding.DecodeString(asked.Marker)
		i := slices.IndexFunc(items, func(t T) bool { return key(t) == string(last) })
		if err != nil || i < 0 {
			return nil, "", invalid("Invalid marker")
		}
		items = items[i+1:]
	}
	if len(items) <= size {
		return items, "", nil
	}
	items = items[:size]
	return items, base64.RawURLEncoding.EncodeToString([]byte(key(items[size-1]))), nil
}

// inOrder lists what a map has in the order of its keys.
func inOrder[T any](all map[string]T) []T {
	list := make([]T, 0, len(all))
	for _, key := range slices.SortedFunc(maps.Keys(all), cmp.Compare) {
		list = append(list, all[key])
	}
	return list
}
