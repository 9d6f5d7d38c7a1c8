// Package tags keeps EC2's rules for tags, so that text that others wrote (a
// commit message, a branch, a file name) can be made a tag that EC2 accepts.
//
// The rules are those of "Tag your Amazon EC2 resources" in the EC2 user guide.
// EC2 takes every character of Unicode in keys and values; only control
// characters are kept out of them here, because they break consoles, reports
// and the XML of EC2's own answers.
package tags

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What EC2 allows, in Unicode characters and in tags a resource.
const (
	MaxKey   = 128
	MaxValue = 256
	Max      = 50
)

// Reserved starts the keys that only AWS may write. They don't count to Max.
const Reserved = "aws:"

// Value makes text the value of a tag: runs of white space and of control
// characters become one space, what is longer than MaxValue is cut off.
func Value(text string) string { return fold(text, MaxValue) }

// Key makes text the key of a tag, as Value does for values.
func Key(text string) string { return fold(text, MaxKey) }

func fold(text string, limit int) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(text, string(utf8.RuneError)), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\uFFFE' || r == '\uFFFF'
	})
	runes := []rune(strings.Join(words, " "))
	return strings.TrimRight(string(runes[:min(len(runes), limit)]), " ")
}

// Check tells what EC2 would say of tags that a user wrote: they are refused
// rather than bent. The errors name the option that they stand in.
func Check(option string, wanted map[string]string) []error {
	var errs []error
	say := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: tag %q: %s", option, key, fmt.Sprintf(format, args...)))
	}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		value := wanted[key]
		switch {
		case key == "":
			say(key, "the key is empty")
		case isReserved(key):
			say(key, "keys that start with %q are reserved to AWS; choose another", Reserved)
		case utf8.RuneCountInString(key) > MaxKey:
			say(key, "the key has %d characters and EC2 allows %d; shorten it", utf8.RuneCountInString(key), MaxKey)
		}
		if n := utf8.RuneCountInString(value); n > MaxValue {
			say(key, "the value has %d characters and EC2 allows %d; shorten it", n, MaxValue)
		}
		if strings.ContainsFunc(key+value, unicode.IsControl) {
			say(key, "there is a control character in it; remove it")
		}
	}
	if len(wanted) > Max {
		errs = append(errs, fmt.Errorf("%s: %d tags, and EC2 allows %d a resource; remove some", option, len(wanted), Max))
	}
	return errs
}

// Fit chooses which of the wanted tags a resource gets that has others already.
// A tag that is present is written over and takes no room; new ones are taken
// in the order of the groups, by key within a group, until there are Max. The
// keys that found no room are returned sorted.
func Fit(present map[string]string, groups ...map[string]string) (fit map[string]string, left []string) {
	room := Max
	for key := range present {
		if !isReserved(key) {
			room--
		}
	}
	fit = map[string]string{}
	for _, group := range groups {
		for _, key := range slices.Sorted(maps.Keys(group)) {
			_, chosen := fit[key]
			_, there := present[key]
			switch {
			case chosen || isReserved(key):
			case there:
				fit[key] = group[key]
			case room > 0:
				fit[key] = group[key]
				room--
			default:
				left = append(left, key)
			}
		}
	}
	slices.Sort(left)
	return fit, slices.Compact(left)
}

// EC2 reserves the prefix in every mixture of upper and lower case.
func isReserved(key string) bool {
	return len(key) >= len(Reserved) && strings.EqualFold(key[:len(Reserved)], Reserved)
}
