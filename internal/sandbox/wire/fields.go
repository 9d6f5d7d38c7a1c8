package wire

import (
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// field is one field of a struct as its tags describe it.
type field struct {
	index    []int
	in, out  string // names in requests and responses; out is "" where the protocol chooses
	item     string // of a list's elements in XML; "" for the protocol's usual one
	name     string // in Go
	required bool
	place    string // "", or where RESTJSON has it: path, query, header, body, status
}

// outName is the field's name in responses, small or as in Go.
func (f field) outName(small bool) string {
	switch {
	case f.out != "":
		return f.out
	case small:
		first, size := utf8.DecodeRuneInString(f.name)
		return string(unicode.ToLower(first)) + f.name[size:]
	}
	return f.name
}

var fieldCache sync.Map // reflect.Type → []field

// fieldsOf lists the fields of a struct type in their order.
func fieldsOf(t reflect.Type) []field {
	if cached, ok := fieldCache.Load(t); ok {
		return cached.([]field)
	}
	var fields []field
	for _, sf := range reflect.VisibleFields(t) {
		if sf.Anonymous || !sf.IsExported() || sf.Tag.Get("wire") == "-" {
			continue
		}
		fields = append(fields, describe(sf))
	}
	fieldCache.Store(t, fields)
	return fields
}

func describe(sf reflect.StructField) field {
	f := field{index: sf.Index, name: sf.Name, in: sf.Name}
	parts := strings.Split(sf.Tag.Get("wire")+",,", ",")
	if parts[0] != "" {
		f.in = parts[0]
	}
	f.out, f.item, _ = strings.Cut(parts[1], ">")
	f.required = parts[2] == "required"
	for _, place := range []string{"path", "query", "header", "body", "status"} {
		if name, ok := sf.Tag.Lookup(place); ok {
			f.place, f.in, f.out = place, name, name
			f.required = f.required || place == "path"
		}
	}
	return f
}
