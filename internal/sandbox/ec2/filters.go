package ec2

import (
	"strconv"
	"strings"
)

// filter narrows a Describe call. An item passes when, for each filter, one of
// its values matches one of the filter's: `*` stands for any characters, `?`
// for one, `\` takes the meaning from the next.
type filter struct {
	Name   string
	Values []string `wire:"Value"`
}

// maxFilterValues is how many values all filters of a call may have together
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html).
const maxFilterValues = 200

// filterable tells the values an item has for each filter that a Describe call
// knows. Items that bear tags are filtered by tag:<key> and tag-key as well.
type filterable[T any] struct {
	values map[string]func(T) []string
	tags   func(T) tags
}

// keep gives the items that pass all filters, in their order.
func (f filterable[T]) keep(items []T, filters []filter) ([]T, error) {
	passes, err := f.all(filters)
	if err != nil {
		return nil, err
	}
	var kept []T
	for _, item := range items {
		if passes(item) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

// all gives the test that an item passes when it passes every filter.
func (f filterable[T]) all(filters []filter) (func(T) bool, error) {
	count := 0
	var tests []func(T) bool
	for _, by := range filters {
		count += len(by.Values)
		test, err := f.test(by)
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	if count > maxFilterValues {
		return nil, fail("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
	}
	return func(item T) bool {
		for _, test := range tests {
			if !test(item) {
				return false
			}
		}
		return true
	}, nil
}

func (f filterable[T]) test(by filter) (func(T) bool, error) {
	if by.Name == "" {
		return nil, fail("InvalidParameterValue", "The filter 'null' is invalid")
	}
	if len(by.Values) == 0 {
		return nil, fail("InvalidParameterValue", "The filter '%s' needs at least one value", by.Name)
	}
	of, known := f.values[by.Name]
	if f.tags != nil {
		if key, found := strings.CutPrefix(by.Name, "tag:"); found {
			of, known = func(item T) []string {
				if value, has := f.tags(item)[key]; has {
					return []string{value}
				}
				return nil
			}, true
		} else if by.Name == "tag-key" {
			of, known = func(item T) []string { return f.tags(item).keys() }, true
		}
	}
	if !known {
		return nil, fail("InvalidParameterValue", "The filter '%s' is invalid", by.Name)
	}
	return func(item T) bool { return anyMatches(of(item), by.Values) }, nil
}

func anyMatches(values, patterns []string) bool {
	for _, value := range values {
		for _, pattern := range patterns {
			if matches(pattern, value) {
				return true
			}
		}
	}
	return false
}

// matches reports whether the whole of value matches the pattern. It goes back
// to the last `*` only, so that it takes at most len(pattern)*len(value) steps.
func matches(pattern, value string) bool {
	p, v := 0, 0
	star, mark := -1, 0
	for v < len(value) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, v
			p++
			continue
		case p < len(pattern) && pattern[p] == '?':
			p, v = p+1, v+1
			continue
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == value[v]:
			p, v = p+2, v+1
			continue
		case p < len(pattern) && pattern[p] != '\\' && pattern[p] == value[v]:
			p, v = p+1, v+1
			continue
		case star < 0:
			return false
		}
		mark++
		p, v = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// one is the values of a filter that has one value, or none where it is empty.
func one(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func truth(b bool) []string {
	if b {
		return []string{"true"}
	}
	return []string{"false"}
}

func number[N int | int64](n *N) []string {
	if n == nil {
		return nil
	}
	return []string{strconv.FormatInt(int64(*n), 10)}
}
