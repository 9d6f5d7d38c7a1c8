package state

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestAPageIsWrittenAsJSON(t *testing.T) {
	type entry struct {
		Name string
		Tags map[string]string `json:",omitempty"`
	}
	type whole struct {
		Flag    bool
		When    time.Time
		One     *entry
		None    *entry
		Entries map[string]*entry
		Empty   map[string]int
		Absent  map[string]int
		Renamed map[string]int `json:"other,omitempty"`
		Hidden  map[string]int `json:"-"`
		private map[string]int
	}
	in := &whole{
		Flag: true, When: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), One: &entry{Name: "one"},
		Entries: map[string]*entry{"b": {Name: "<b>"}, "a": {Name: "a", Tags: map[string]string{"k": "v"}}, `"`: nil},
		Empty:   map[string]int{}, Renamed: map[string]int{"x": 1}, private: map[string]int{"no": 1},
	}
	var text, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&text, &again} {
		if err := encodePage(w, in); err != nil {
			t.Fatal(err)
		}
	}
	if text.String() != again.String() {
		t.Errorf("written as\n%s\nand then as\n%s", &text, &again)
	}
	out := &whole{}
	if err := json.Unmarshal(text.Bytes(), out); err != nil {
		t.Fatalf("%v in %s", err, &text)
	}
	in.private, out.Absent = nil, nil
	if !reflect.DeepEqual(in, out) {
		t.Errorf("%s is read as %+v, want %+v", &text, out, in)
	}
}

func TestAPageOfNothingIsWrittenAsJSON(t *testing.T) {
	for name, page := range map[string]any{"a struct": &struct{}{}, "a list": &[]int{1}} {
		var text bytes.Buffer
		if err := encodePage(&text, page); err != nil || !json.Valid(text.Bytes()) {
			t.Errorf("%s is written as %q, %v", name, &text, err)
		}
	}
}
