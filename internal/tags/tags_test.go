package tags

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValueIsWhatEC2Accepts(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"plain text stays":                  {"Fix the door", "Fix the door"},
		"lines become one":                  {"Fix the door\n\n\tIt squeaked.\r\n", "Fix the door It squeaked."},
		"control characters become a space": {"a\x00b\x1b[31mc\u0085d\x7fe", "a b [31mc d e"},
		"not even U+FFFE is kept":           {"a\uFFFEb", "a b"},
		"256 characters stay":               {strings.Repeat("é", 256), strings.Repeat("é", 256)},
		"the 257th is cut":                  {strings.Repeat("日", 257), strings.Repeat("日", 256)},
		"no space is left at the cut":       {strings.Repeat("x", 255) + " y", strings.Repeat("x", 255)},
		"bytes that are not UTF-8":          {"caf\xe9 au lait", "caf\uFFFD au lait"},
		"nothing":                           {" \n ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Value(test.text); got != test.want {
				t.Errorf("Value(%q) = %q, want %q", test.text, got, test.want)
			}
		})
	}
}

func TestKeyIsCutAt128(t *testing.T) {
	if got, want := Key("a\n"+strings.Repeat("k", 200)), "a "+strings.Repeat("k", 126); got != want {
		t.Errorf("Key is %q, want %q", got, want)
	}
}

func TestCheckRefusesWhatEC2Would(t *testing.T) {
	for name, test := range map[string]struct {
		tags map[string]string
		want string
	}{
		"good":              {map[string]string{"Owner/Team": "a b: ü"}, ""},
		"empty key":         {map[string]string{"": "x"}, "the key is empty"},
		"reserved":          {map[string]string{"AWS:x": "x"}, "reserved"},
		"long key":          {map[string]string{strings.Repeat("ü", 129): "x"}, "129 characters"},
		"long value":        {map[string]string{"k": strings.Repeat("ü", 257)}, "257 characters"},
		"control character": {map[string]string{"k": "a\nb"}, "control character"},
		"too many":          {many("k", 51), "51 tags"},
	} {
		t.Run(name, func(t *testing.T) {
			errs := Check("tags", test.tags)
			if test.want == "" {
				if len(errs) > 0 {
					t.Errorf("errors %v, want none", errs)
				}
				return
			}
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), test.want) || !strings.HasPrefix(errs[0].Error(), "tags: ") {
				t.Errorf("errors %v, want one that names tags and %q", errs, test.want)
			}
		})
	}
}

func TestFitNeverMakesMoreThanFiftyTags(t *testing.T) {
	present := many("p", 47)
	present["aws:cloudformation:stack-name"] = "counts for nothing"
	fit, left := Fit(present,
		map[string]string{"b": "1", "a": "1", "p00": "new"},
		map[string]string{"a": "2", "c": "2", "d": "2", "aws:x": "never"},
	)
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "1", "c": "2", "p00": "new"}, fit); diff != "" {
		t.Errorf("tags chosen:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"d"}, left); diff != "" {
		t.Errorf("tags left out:\n%s", diff)
	}
}

func many(prefix string, n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprintf("%s%02d", prefix, i)] = "x"
	}
	return m
}
