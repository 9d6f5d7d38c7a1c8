package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// JSON is the JSON 1.1 protocol of ssm: the operation is named by the header
// X-Amz-Target, as target.Operation.
func JSON(target string) Protocol { return jsonProtocol{target} }

type jsonProtocol struct{ target string }

func (p jsonProtocol) Parse(r *http.Request) (*Request, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	operation, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), p.target+".")
	return &Request{Protocol: p, Operation: operation, decode: func(in any) error {
		tree, err := jsonTree(body)
		if err == nil {
			err = decodeStruct(reflect.ValueOf(in).Elem(), tree, "")
		}
		return jsonMisfit(err)
	}}, nil
}

// jsonTree parses a JSON object; an empty body is an empty object.
func jsonTree(body []byte) (object, error) {
	if len(body) == 0 {
		return object{}, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var parsed map[string]any
	if err := decoder.Decode(&parsed); err != nil {
		return nil, Errorf("SerializationException", "The request is not a JSON object: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, Errorf("SerializationException", "The request has something after its JSON object")
	}
	return jsonValue(parsed).(object), nil
}

func jsonValue(value any) any {
	switch value := value.(type) {
	case map[string]any:
		o := make(object, len(value))
		for name, below := range value {
			o[name] = jsonValue(below)
		}
		return o
	case []any:
		items := make(list, len(value))
		for i, item := range value {
			items[i] = jsonValue(item)
		}
		return items
	}
	return value
}

func jsonMisfit(err error) error {
	m, ok := errors.AsType[*misfit](err)
	if !ok {
		return err
	}
	switch m.way {
	case unknown:
		return Errorf("ValidationException", "The parameter %s is not recognized by the sandbox", m.path)
	case missing:
		return Errorf("ValidationException", "Value null at '%s' failed to satisfy constraint: Member must not be null", m.path)
	}
	return Errorf("SerializationException", "The value at %s does not fit%s", m.path, m.detail)
}

func (p jsonProtocol) Encode(_, requestID string, out any) *Response {
	return p.response(http.StatusOK, requestID, jsonStruct(reflect.ValueOf(out).Elem(), true))
}

func (p jsonProtocol) EncodeError(requestID string, err error) *Response {
	e := asError(err, "InternalServerError")
	return p.response(e.status(), requestID, marshal(map[string]string{"__type": e.Code, "message": e.Message}))
}

func (p jsonProtocol) response(status int, requestID string, body []byte) *Response {
	r := newResponse(status, "application/x-amz-json-1.1", body)
	r.Header.Set("X-Amzn-Requestid", requestID)
	return r
}

func (p jsonProtocol) UnknownOperation(operation string) *Error {
	return Errorf("UnknownOperationException", "The operation %s is not known to the sandbox", operation)
}

func (p jsonProtocol) Denied(sentence string) *Error {
	return Errorf("AccessDeniedException", "%s", sentence)
}

// jsonStruct writes the fields of a struct that are not bound elsewhere.
func jsonStruct(v reflect.Value, top bool) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for _, f := range fieldsOf(v.Type()) {
		value, ok := outValue(v.FieldByIndex(f.index), top)
		if !ok || f.place != "" {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(marshal(f.outName(false)))
		b.WriteByte(':')
		b.Write(jsonField(value))
	}
	b.WriteByte('}')
	return b.Bytes()
}

func jsonField(v reflect.Value) json.RawMessage {
	if t, ok := v.Interface().(time.Time); ok {
		return fmt.Appendf(nil, "%.3f", float64(t.UnixMilli())/1e3)
	}
	switch {
	case isScalar(v):
		return marshal(v.Interface())
	case v.Kind() == reflect.Struct:
		return jsonStruct(v, false)
	case v.Kind() == reflect.Slice:
		items := make([]json.RawMessage, v.Len())
		for i := range items {
			items[i] = jsonField(reflect.Indirect(v.Index(i)))
		}
		return marshal(items)
	}
	panic(fmt.Sprintf("wire: a response value of type %s", v.Type()))
}

// marshal writes what always has a JSON form.
func marshal(value any) json.RawMessage {
	b, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("wire: marshal %T: %v", value, err))
	}
	return b
}
