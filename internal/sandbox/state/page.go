package state

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// encodePage writes a page as JSON. Its maps are written entry by entry, so that
// a page of many thousand entries does not have to be in memory a second time.
// The same page is always written alike.
func encodePage(w io.Writer, page any) error {
	v := reflect.ValueOf(page).Elem()
	if v.Kind() != reflect.Struct {
		return json.NewEncoder(w).Encode(page)
	}
	rest := reflect.New(v.Type()).Elem() // the page without its maps
	rest.Set(v)
	large := map[string]reflect.Value{}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" || field.Type.Kind() != reflect.Map || field.Type.Key().Kind() != reflect.String {
			continue
		}
		large[cmp.Or(name, field.Name)] = v.Field(i)
		rest.Field(i).SetZero()
	}
	text, err := json.Marshal(rest.Interface())
	if err != nil {
		return err
	}
	small := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &small); err != nil {
		return err
	}
	e := &entries{to: w, separator: "{"}
	for _, name := range slices.Sorted(maps.Keys(small)) {
		if _, later := large[name]; !later {
			e.add(name, small[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(large)) {
		e.key(name)
		e.object(large[name])
	}
	e.end()
	return e.err
}

// entries writes the entries of JSON objects.
type entries struct {
	to        io.Writer
	separator string
	err       error
}

func (e *entries) write(text ...[]byte) {
	for _, t := range text {
		if e.err == nil {
			_, e.err = e.to.Write(t)
		}
	}
}

func (e *entries) key(name string) {
	text, err := json.Marshal(name)
	e.err = errors.Join(e.err, err)
	e.write([]byte(e.separator), text, []byte(":"))
	e.separator = ","
}

func (e *entries) add(name string, value any) {
	text, err := json.Marshal(value)
	e.err = errors.Join(e.err, err)
	e.key(name)
	e.write(text)
}

// object writes a map with names for keys.
func (e *entries) object(m reflect.Value) {
	inner := &entries{to: e.to, separator: "{", err: e.err}
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	for _, key := range keys {
		inner.add(key.String(), m.MapIndex(key).Interface())
	}
	inner.end()
	e.err = inner.err
}

// end ends the object, which may have had no entry.
func (e *entries) end() {
	if e.separator == "{" {
		e.write([]byte("{"))
	}
	e.write([]byte("}"))
}

// writePage writes a page to a file, and what it writes also to digest.
func writePage(path string, page any, digest io.Writer) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save the sandbox's state: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(io.MultiWriter(file, digest), 256<<10)
	if err := encodePage(w, page); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}
