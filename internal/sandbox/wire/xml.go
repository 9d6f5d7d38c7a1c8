package wire

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// xmlTime is how both query protocols write times.
const xmlTime = "2006-01-02T15:04:05.000Z"

// xmlStyle is what EC2's XML and that of the other query services differ in.
type xmlStyle struct {
	item  string // what an element of a list is called
	small bool   // names begin with a small letter
}

// xmlWriter writes elements.
type xmlWriter struct {
	bytes.Buffer
	style xmlStyle
}

func (w *xmlWriter) text(name, value string) {
	w.open(name)
	_ = xml.EscapeText(w, []byte(value)) // a bytes.Buffer never fails
	w.close(name)
}

func (w *xmlWriter) open(name string)  { w.WriteString("<" + name + ">") }
func (w *xmlWriter) close(name string) { w.WriteString("</" + name + ">") }

// fields writes the fields of a struct. Top is true for a response's
// outermost struct, whose lists are written even when nil.
func (w *xmlWriter) fields(v reflect.Value, top bool) {
	for _, f := range fieldsOf(v.Type()) {
		value, ok := outValue(v.FieldByIndex(f.index), top)
		if ok {
			w.value(f.outName(w.style.small), value, cmp.Or(f.item, w.style.item))
		}
	}
}

// value writes an element; item is what the elements of a list are called.
func (w *xmlWriter) value(name string, v reflect.Value, item string) {
	switch {
	case isScalar(v):
		w.text(name, scalarText(v))
	case v.Kind() == reflect.Struct:
		w.open(name)
		w.fields(v, false)
		w.close(name)
	case v.Kind() == reflect.Slice:
		w.open(name)
		for i := range v.Len() {
			w.value(item, reflect.Indirect(v.Index(i)), w.style.item)
		}
		w.close(name)
	default:
		panic(fmt.Sprintf("wire: a response field %s of type %s", name, v.Type()))
	}
}

// outValue follows a field's pointer, and tells whether the field is written
// at all.
func outValue(v reflect.Value, top bool) (reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Pointer:
		return v.Elem(), !v.IsNil()
	case reflect.Slice:
		return v, !v.IsNil() || top && !isScalar(v)
	case reflect.String:
		return v, v.Len() > 0
	}
	if t, ok := v.Interface().(time.Time); ok {
		return v, !t.IsZero()
	}
	return v, true
}

func isScalar(v reflect.Value) bool {
	switch v.Interface().(type) {
	case time.Time, []byte:
		return true
	}
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		return true
	}
	return false
}

func scalarText(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Time:
		return value.UTC().Format(xmlTime)
	case []byte:
		return base64.StdEncoding.EncodeToString(value)
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	}
	return strconv.FormatInt(v.Int(), 10)
}
