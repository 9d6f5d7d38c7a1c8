package elbv2

import (
	"cmp"
	"maps"
	"slices"

	pages "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
)

// paging is the part of a Describe request that asks for a page.
type paging struct {
	Marker   string
	PageSize *int
}

// The size of a page: the most, which is also the default.
const maxPage = 400

// cut gives one page of items, which are in the order of their places, and the
// marker of the next.
func cut[T any](items []T, asked paging, place func(T) string) ([]T, string, error) {
	size := maxPage
	if asked.PageSize != nil {
		if size = *asked.PageSize; size < 1 || size > maxPage {
			return nil, "", invalid("PageSize is %d, but must be between 1 and %d", size, maxPage)
		}
	}
	page, next, ok := pages.Cut(items, asked.Marker, size, place)
	if !ok {
		return nil, "", invalid("Invalid marker")
	}
	return page, next, nil
}

// inOrder lists what a map has in the order of its keys.
func inOrder[T any](all map[string]T) []T {
	list := make([]T, 0, len(all))
	for _, key := range slices.SortedFunc(maps.Keys(all), cmp.Compare) {
		list = append(list, all[key])
	}
	return list
}
