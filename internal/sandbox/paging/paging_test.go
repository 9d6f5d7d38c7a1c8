package paging_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/paging"
)

func TestPagesStandWhenItemsComeAndGo(t *testing.T) {
	items := strings.Split("bdfhj", "")
	cut := func(token string) ([]string, string) {
		t.Helper()
		page, next, ok := paging.Cut(items, token, 2, func(item string) string { return item })
		if !ok {
			t.Fatalf("the token %q is refused", token)
		}
		return slices.Clone(page), next
	}
	first, next := cut("")
	items = strings.Split("bcfghj", "") // d, the last that was given, is gone; c and g have come
	second, next := cut(next)
	items = strings.Split("bcfghj", "")
	third, end := cut(next)
	if got := strings.Join(slices.Concat(first, second, third), ""); got != "bdfghj" || end != "" {
		t.Errorf("the pages are %s, with the token %q at the end, want bdfghj and none", got, end)
	}
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	for _, token := range []string{"?", "d", "YWZ0ZXI"} {
		if _, _, ok := paging.Cut([]string{"a"}, token, 1, func(item string) string { return item }); ok {
			t.Errorf("%q is taken for a token", token)
		}
	}
}
