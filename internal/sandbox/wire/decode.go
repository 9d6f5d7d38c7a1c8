package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// A parsed request is a tree of these:
//
//	object       of named values
//	list         of values
//	text         a value that has no type of its own: of a form, header or query
//	string, json.Number, bool, nil   values of JSON
type (
	object map[string]any
	list   []any
	text   string
)

// way is a way in which a tree can fail to fit a struct. Each protocol says it
// with a code of its own.
type way string

const (
	unknown    way = "unknown parameter"
	missing    way = "missing parameter"
	mismatched way = "value does not fit"
)

// misfit is the way, at the path of the parameter.
type misfit struct {
	way    way
	path   string
	detail string
}

func (m *misfit) Error() string {
	return fmt.Sprintf("%v %s%s", m.way, m.path, m.detail)
}

// decodeStruct fills v, a struct, from o. Names that no field knows and that
// are not among ignored are errors.
func decodeStruct(v reflect.Value, o object, path string) error {
	known := make(map[string]bool, len(o))
	for _, f := range fieldsOf(v.Type()) {
		if f.place != "" {
			continue
		}
		value, ok := o[f.in]
		if !ok || value == nil {
			if f.required {
				return &misfit{way: missing, path: join(path, f.in)}
			}
			known[f.in] = true
			continue
		}
		known[f.in] = true
		if err := decodeValue(v.FieldByIndex(f.index), value, join(path, f.in)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !known[name] {
			return &misfit{way: unknown, path: join(path, name)}
		}
	}
	return nil
}

func decodeValue(v reflect.Value, value any, path string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(v.Elem(), value, path)
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		return decodeTime(v, value, path)
	case v.Type() == reflect.TypeFor[[]byte]():
		return decodeBytes(v, value, path)
	case v.Kind() == reflect.Struct:
		switch value := value.(type) {
		case object:
			return decodeStruct(v, value, path)
		case text:
			if value == "" { // a structure without members, as forms have it
				return decodeStruct(v, nil, path)
			}
		}
		return mismatch(path, value, "a structure")
	case v.Kind() == reflect.Slice:
		return decodeSlice(v, value, path)
	}
	return decodeScalar(v, value, path)
}

func decodeSlice(v reflect.Value, value any, path string) error {
	items, ok := value.(list)
	if !ok {
		if value != text("") { // an empty list, as forms have it
			return mismatch(path, value, "a list")
		}
	}
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		if item == nil {
			return mismatch(path, item, "a list without gaps")
		}
		if err := decodeValue(v.Index(i), item, join(path, strconv.Itoa(i+1))); err != nil {
			return err
		}
	}
	return nil
}

func decodeScalar(v reflect.Value, value any, path string) error {
	switch v.Kind() {
	case reflect.String:
		if s, ok := asText[string](value); ok {
			v.SetString(s)
			return nil
		}
		return mismatch(path, value, "a string")
	case reflect.Bool:
		if b, ok := value.(bool); ok {
			v.SetBool(b)
			return nil
		}
		if t, ok := value.(text); ok && (t == "true" || t == "false") {
			v.SetBool(t == "true")
			return nil
		}
		return mismatch(path, value, "true or false")
	case reflect.Int, reflect.Int32, reflect.Int64:
		if s, ok := asText[json.Number](value); ok {
			if n, err := strconv.ParseInt(s, 10, v.Type().Bits()); err == nil {
				v.SetInt(n)
				return nil
			}
		}
		return mismatch(path, value, "a whole number")
	case reflect.Float64:
		if n, ok := asNumber(value); ok {
			v.SetFloat(n)
			return nil
		}
		return mismatch(path, value, "a number")
	}
	panic(fmt.Sprintf("wire: a request field %s of type %s", path, v.Type()))
}

// decodeTime knows ISO 8601 and seconds since 1970; AWS's services take both
// in forms, and seconds in JSON.
func decodeTime(v reflect.Value, value any, path string) error {
	if s, ok := value.(text); ok {
		if t, err := time.Parse(time.RFC3339Nano, string(s)); err == nil {
			v.Set(reflect.ValueOf(t.UTC()))
			return nil
		}
	}
	if seconds, ok := asNumber(value); ok && math.Abs(seconds) < 1e11 {
		whole, part := math.Modf(seconds)
		v.Set(reflect.ValueOf(time.Unix(int64(whole), int64(math.Round(part*1e3))*1e6).UTC()))
		return nil
	}
	return mismatch(path, value, "a time such as 2006-01-02T15:04:05Z")
}

func decodeBytes(v reflect.Value, value any, path string) error {
	if s, ok := asText[string](value); ok {
		if b, err := base64.StdEncoding.DecodeString(s); err == nil {
			v.SetBytes(b)
			return nil
		}
	}
	return &misfit{way: mismatched, path: path, detail: ": expected base64"} // it may be a secret
}

// asText gives a value that is untyped text, or of JSON's type J.
func asText[J ~string](value any) (string, bool) {
	switch value := value.(type) {
	case text:
		return string(value), true
	case J:
		return string(value), true
	}
	return "", false
}

func asNumber(value any) (float64, bool) {
	s, ok := asText[json.Number](value)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

func mismatch(path string, value any, want string) error {
	detail := fmt.Sprintf(": expected %s", want)
	switch value := value.(type) {
	case text, string, json.Number, bool:
		detail = fmt.Sprintf(": expected %s, got %.64q", want, fmt.Sprint(value))
	}
	return &misfit{way: mismatched, path: path, detail: detail}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
