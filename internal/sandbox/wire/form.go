package wire

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// parseForm reads the parameters of a query protocol from the URL and the
// body.
func parseForm(r *http.Request) (url.Values, error) {
	form := url.Values{}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	for _, encoded := range []string{r.URL.RawQuery, string(body)} {
		values, err := url.ParseQuery(encoded)
		if err != nil {
			return nil, Errorf("MalformedQueryString", "The query string is malformed: %v", err)
		}
		for name, v := range values {
			form[name] = append(form[name], v...)
		}
	}
	return form, nil
}

// outside are the parameters that belong to the protocol and the signature,
// not to the operation.
func outside(name string) bool {
	return name == "Action" || name == "Version" || strings.HasPrefix(name, "X-Amz-")
}

// maxLevels is more than any of AWS's parameters is deep.
const maxLevels = 32

// formTree makes a tree of a form: the dots of a name are its levels, and
// levels that are numbers make a list. Where wrapper is given, every list is
// one level below that name.
func formTree(form url.Values, wrapper string) (object, error) {
	tree := object{}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if outside(name) {
			continue
		}
		if len(form[name]) > 1 {
			return nil, &misfit{way: mismatched, path: name, detail: ": given more than once"}
		}
		levels := strings.Split(name, ".")
		if len(levels) > maxLevels {
			return nil, &misfit{way: unknown, path: name}
		}
		if !plant(tree, levels, text(form[name][0])) {
			return nil, &misfit{way: mismatched, path: name, detail: ": given both as a value and as a structure"}
		}
	}
	for name, value := range tree {
		tree[name] = withLists(value, wrapper)
	}
	return tree, nil
}

// plant puts a value at its place in the tree, unless something else is on
// the way.
func plant(tree object, levels []string, value text) bool {
	for _, level := range levels[:len(levels)-1] {
		below, ok := tree[level]
		if !ok {
			below = object{}
			tree[level] = below
		}
		if tree, ok = below.(object); !ok {
			return false
		}
	}
	last := levels[len(levels)-1]
	if _, taken := tree[last]; taken {
		return false
	}
	tree[last] = value
	return true
}

// withLists turns the objects below value that are numbered into lists.
func withLists(value any, wrapper string) any {
	o, ok := value.(object)
	if !ok {
		return value
	}
	for name, below := range o {
		o[name] = withLists(below, wrapper)
	}
	if wrapper == "" {
		if items, ok := numbered(o); ok {
			return items
		}
		return o
	}
	if inner, ok := o[wrapper]; ok && len(o) == 1 {
		if inner, ok := inner.(object); ok {
			if items, ok := numbered(inner); ok {
				return items
			}
		}
	}
	return o
}

// numbered gives the values of an object whose names are all numbers from 1,
// in the order of these. AWS allows gaps.
func numbered(o object) (list, bool) {
	numbers := make([]int, 0, len(o))
	for name := range o {
		n, err := strconv.Atoi(name)
		if err != nil || n < 1 || strconv.Itoa(n) != name {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	items := make(list, len(numbers))
	for i, n := range numbers {
		items[i] = o[strconv.Itoa(n)]
	}
	return items, true
}
