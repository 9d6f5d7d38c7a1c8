package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// CBOR (RFC 8949), as far as Smithy's RPC protocol uses it: maps with text for
// keys, lists, text, bytes, numbers, booleans, null, and times, which are numbers
// with a tag.

// The major types.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborList
	cborMap
	cborTag
	cborSimple
)

const (
	cborIndefinite = 31   // the additional information of what is ended by a break
	cborBreak      = 0xff // a whole item
	cborEpoch      = 1    // the tag of seconds since 1970
)

// cborTree parses a map into the tree that requests of all protocols become.
func cborTree(body []byte) (object, error) {
	if len(body) == 0 {
		return object{}, nil
	}
	r := cborReader{rest: body}
	value, err := r.value(0)
	if err == nil && len(r.rest) > 0 {
		err = errors.New("there is something after it")
	}
	if err != nil {
		return nil, Errorf("SerializationException", "The request is not CBOR: %v", err)
	}
	tree, ok := value.(object)
	if !ok {
		return nil, Errorf("SerializationException", "The request is not a CBOR map")
	}
	return tree, nil
}

type cborReader struct{ rest []byte }

var errCut = errors.New("it ends too early")

func (r *cborReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, errCut
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken, nil
}

// head reads the beginning of an item: its major type, its additional
// information and the number that it holds.
func (r *cborReader) head() (major, info byte, n uint64, err error) {
	first, err := r.take(1)
	if err != nil {
		return 0, 0, 0, err
	}
	major, info = first[0]>>5, first[0]&31
	switch {
	case info < 24:
		return major, info, uint64(info), nil
	case info == cborIndefinite:
		return major, info, math.MaxUint64, nil
	case info > 27:
		return 0, 0, 0, fmt.Errorf("additional information %d is reserved", info)
	}
	number, err := r.take(1 << (info - 24))
	if err != nil {
		return 0, 0, 0, err
	}
	var wide [8]byte
	copy(wide[8-len(number):], number)
	return major, info, binary.BigEndian.Uint64(wide[:]), nil
}

// value reads one item, as JSON would have it.
func (r *cborReader) value(depth int) (any, error) {
	if depth > maxLevels {
		return nil, fmt.Errorf("it is more than %d levels deep", maxLevels)
	}
	major, info, n, err := r.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case cborUint:
		return json.Number(strconv.FormatUint(n, 10)), nil
	case cborNegative:
		if n > math.MaxInt64 {
			return nil, errors.New("it has a number that is too small")
		}
		return json.Number(strconv.FormatInt(-1-int64(n), 10)), nil
	case cborBytes, cborText:
		return r.text(major, info, n)
	case cborList:
		return r.list(info, n, depth)
	case cborMap:
		return r.object(info, n, depth)
	case cborTag:
		return r.value(depth + 1) // what it is tagged with, the field's type says
	}
	return cborSimpleValue(info, n)
}

func cborSimpleValue(info byte, n uint64) (any, error) {
	float := func(f float64) (any, error) { return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil }
	switch info {
	case 20:
		return false, nil
	case 21:
		return true, nil
	case 22, 23:
		return nil, nil
	case 26:
		return float(float64(math.Float32frombits(uint32(n))))
	case 27:
		return float(math.Float64frombits(n))
	}
	return nil, fmt.Errorf("simple value %d is not known", info)
}

// text reads text or bytes, which become base64 as they are in JSON.
func (r *cborReader) text(major, info byte, n uint64) (any, error) {
	var all []byte
	for {
		if info == cborIndefinite {
			if r.broken() {
				break
			}
			chunk, chunkInfo, length, err := r.head()
			if err != nil || chunk != major || chunkInfo == cborIndefinite {
				return nil, errors.Join(err, errors.New("it has text in pieces that are none"))
			}
			n = length
		}
		piece, err := r.take(n)
		if err != nil {
			return nil, err
		}
		all = append(all, piece...)
		if info != cborIndefinite {
			break
		}
	}
	if major == cborBytes {
		return base64.StdEncoding.EncodeToString(all), nil
	}
	return string(all), nil
}

func (r *cborReader) list(info byte, n uint64, depth int) (any, error) {
	items := list{}
	for uint64(len(items)) < n {
		if info == cborIndefinite && r.broken() {
			break
		}
		item, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (r *cborReader) object(info byte, n uint64, depth int) (any, error) {
	o := object{}
	for i := uint64(0); i < n; i++ {
		if info == cborIndefinite && r.broken() {
			break
		}
		major, keyInfo, length, err := r.head()
		if err != nil {
			return nil, err
		}
		if major != cborText {
			return nil, errors.New("it has a key that is not text")
		}
		key, err := r.text(major, keyInfo, length)
		if err != nil {
			return nil, err
		}
		if _, twice := o[key.(string)]; twice {
			return nil, fmt.Errorf("it has %q twice", key)
		}
		if o[key.(string)], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// broken takes the break that ends an item of indefinite length, if it is next.
func (r *cborReader) broken() bool {
	if len(r.rest) > 0 && r.rest[0] == cborBreak {
		r.rest = r.rest[1:]
		return true
	}
	return false
}

// cborWriter writes items.
type cborWriter struct{ bytes.Buffer }

func (w *cborWriter) head(major byte, n uint64) {
	switch {
	case n < 24:
		w.WriteByte(major<<5 | byte(n))
	case n <= math.MaxUint8:
		w.Write([]byte{major<<5 | 24, byte(n)})
	case n <= math.MaxUint16:
		w.Write(binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n)))
	case n <= math.MaxUint32:
		w.Write(binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n)))
	default:
		w.Write(binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, n))
	}
}

func (w *cborWriter) text(s string) {
	w.head(cborText, uint64(len(s)))
	w.WriteString(s)
}

func (w *cborWriter) float(f float64) {
	w.Write(binary.BigEndian.AppendUint64([]byte{cborSimple<<5 | 27}, math.Float64bits(f)))
}

// fields writes a struct.
func (w *cborWriter) fields(v reflect.Value, top bool) {
	type entry struct {
		name  string
		value reflect.Value
	}
	var entries []entry
	for _, f := range fieldsOf(v.Type()) {
		if value, ok := outValue(v.FieldByIndex(f.index), top); ok {
			entries = append(entries, entry{f.outName(false), value})
		}
	}
	w.head(cborMap, uint64(len(entries)))
	for _, e := range entries {
		w.text(e.name)
		w.value(e.value)
	}
}

func (w *cborWriter) value(v reflect.Value) {
	switch value := v.Interface().(type) {
	case time.Time:
		w.head(cborTag, cborEpoch)
		w.float(float64(value.UnixMilli()) / 1e3)
		return
	case []byte:
		w.head(cborBytes, uint64(len(value)))
		w.Write(value)
		return
	}
	switch v.Kind() {
	case reflect.String:
		w.text(v.String())
	case reflect.Bool:
		n := uint64(20)
		if v.Bool() {
			n = 21
		}
		w.head(cborSimple, n)
	case reflect.Float64:
		w.float(v.Float())
	case reflect.Int, reflect.Int32, reflect.Int64:
		if n := v.Int(); n < 0 {
			w.head(cborNegative, uint64(-1-n))
		} else {
			w.head(cborUint, uint64(n))
		}
	case reflect.Struct:
		w.fields(v, false)
	case reflect.Slice:
		w.head(cborList, uint64(v.Len()))
		for i := range v.Len() {
			w.value(reflect.Indirect(v.Index(i)))
		}
	default:
		panic(fmt.Sprintf("wire: a response value of type %s", v.Type()))
	}
}
