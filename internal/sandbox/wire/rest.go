package wire

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// RESTJSON is the REST protocol of ebs. Routes gives each operation's method
// and path, as in {"StartSnapshot": "POST /snapshots"}; a segment in braces
// matches any one and is named by a path tag.
func RESTJSON(routes map[string]string) Protocol {
	p := rest{}
	for _, operation := range slices.Sorted(maps.Keys(routes)) {
		method, path, _ := strings.Cut(routes[operation], " ")
		p.routes = append(p.routes, route{operation, method, segments(path)})
	}
	// Where a fixed segment and one in braces both match, the fixed one is meant.
	slices.SortStableFunc(p.routes, func(a, b route) int { return a.open() - b.open() })
	return p
}

type rest struct{ routes []route }

type route struct {
	operation string
	method    string
	segments  []string
}

func segments(path string) []string { return strings.Split(strings.Trim(path, "/"), "/") }

// open counts the segments in braces.
func (r route) open() (n int) {
	for _, s := range r.segments {
		if strings.HasPrefix(s, "{") {
			n++
		}
	}
	return n
}

// match gives the values of the segments in braces.
func (r route) match(method string, path []string) (object, bool) {
	if method != r.method || len(path) != len(r.segments) {
		return nil, false
	}
	values := object{}
	for i, s := range r.segments {
		name, isOpen := strings.CutPrefix(s, "{")
		switch {
		case isOpen && path[i] != "":
			values[strings.TrimSuffix(name, "}")] = text(path[i])
		case s != path[i]:
			return nil, false
		}
	}
	return values, true
}

func (p rest) Parse(r *http.Request) (*Request, error) {
	path := segments(r.URL.EscapedPath())
	for i, s := range path {
		plain, err := url.PathUnescape(s)
		if err != nil {
			return nil, Errorf("ValidationException", "The path is malformed: %v", err)
		}
		path[i] = plain
	}
	for _, route := range p.routes {
		if values, ok := route.match(r.Method, path); ok {
			return &Request{Protocol: p, Operation: route.operation, decode: func(in any) error {
				return restMisfit(decodeREST(reflect.ValueOf(in).Elem(), r, values))
			}}, nil
		}
	}
	return &Request{Protocol: p, Operation: r.Method + " " + r.URL.Path}, nil
}

// decodeREST fills v from the places that its fields are bound to; those
// bound to none are members of a JSON body.
func decodeREST(v reflect.Value, r *http.Request, path object) error {
	query, err := queryTree(r)
	if err != nil {
		return err
	}
	places := map[string]object{"path": path, "query": query, "header": headerTree(r)}
	raw, members := false, false
	for _, f := range fieldsOf(v.Type()) {
		switch f.place {
		case "":
			members = true
			continue
		case "body":
			raw = true
			v.FieldByIndex(f.index).Set(reflect.ValueOf(io.Reader(r.Body)))
			continue
		}
		value, ok := take(places[f.place], f)
		if !ok {
			if f.required {
				return &misfit{way: missing, path: f.in}
			}
			continue
		}
		if err := decodeValue(v.FieldByIndex(f.index), value, f.in); err != nil {
			return err
		}
	}
	for _, place := range []string{"query", "header"} {
		for _, name := range slices.Sorted(maps.Keys(places[place])) {
			return &misfit{way: unknown, path: name}
		}
	}
	if raw {
		return nil
	}
	return decodeBody(v, r, members)
}

// take removes a field's value from the place that it is bound to.
func take(place object, f field) (any, bool) {
	name := f.in
	if f.place == "header" {
		name = http.CanonicalHeaderKey(name)
	}
	value, ok := place[name]
	delete(place, name)
	return value, ok
}

func decodeBody(v reflect.Value, r *http.Request, members bool) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if !members && len(body) == 0 {
		return nil
	}
	tree, err := jsonTree(body)
	if err != nil {
		return err
	}
	return decodeStruct(v, tree, "")
}

func queryTree(r *http.Request) (object, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Errorf("ValidationException", "The query string is malformed: %v", err)
	}
	tree := object{}
	for name, v := range values {
		if !strings.HasPrefix(name, "X-Amz-") {
			tree[name] = text(v[0])
		}
	}
	return tree, nil
}

// foreign are the x-amz headers of the signature and the clients, which are
// no parameters.
var foreign = []string{
	"X-Amz-Algorithm", "X-Amz-Content-Sha256", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
	"X-Amz-Security-Token", "X-Amz-Target", "X-Amz-Te", "X-Amz-User-Agent",
}

func headerTree(r *http.Request) object {
	tree := object{}
	for name, v := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") && !slices.Contains(foreign, name) {
			tree[name] = text(v[0])
		}
	}
	return tree
}

func restMisfit(err error) error {
	m, ok := errors.AsType[*misfit](err)
	if !ok {
		return err
	}
	message := "The value of " + m.path + " is invalid" + m.detail
	switch m.way {
	case unknown:
		message = fmt.Sprintf("The parameter %s is not recognized by the sandbox", m.path)
	case missing:
		message = fmt.Sprintf("The parameter %s is missing", m.path)
	}
	return Errorf("ValidationException", "%s", message).Because("INVALID_PARAMETER_VALUE")
}

func (p rest) Encode(_, requestID string, out any) *Response {
	v := reflect.ValueOf(out).Elem()
	r := newResponse(http.StatusOK, "", nil)
	r.Header.Set("X-Amzn-Requestid", requestID)
	members := false
	for _, f := range fieldsOf(v.Type()) {
		value, ok := outValue(v.FieldByIndex(f.index), false)
		switch {
		case f.place == "":
			members = true
		case !ok:
		case f.place == "status":
			r.Status = int(value.Int())
		case f.place == "header":
			r.Header.Set(f.in, scalarText(value))
		case f.place == "body":
			r.Body = value.Bytes()
			if lent, ok := out.(interface{ Release() }); ok {
				r.release = lent.Release
			}
			r.Header.Set("Content-Type", "application/octet-stream")
		}
	}
	if members {
		r.Body = jsonStruct(v, true)
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (p rest) EncodeError(requestID string, err error) *Response {
	e := asError(err, "InternalServerException")
	body := map[string]string{"Message": e.Message}
	if e.Reason != "" {
		body["Reason"] = e.Reason
	}
	r := newResponse(e.status(), "application/json", marshal(body))
	r.Header.Set("X-Amzn-Errortype", e.Code)
	r.Header.Set("X-Amzn-Requestid", requestID)
	return r
}

func (p rest) UnknownOperation(operation string) *Error {
	return Errorf("UnknownOperationException", "The sandbox has no operation at %s", operation).With(http.StatusNotFound)
}

// Denied gives the reason that EBS gives; of its two the other is for calls that
// EBS itself makes.
func (p rest) Denied(sentence string) *Error {
	return Errorf("AccessDeniedException", "%s", sentence).With(http.StatusForbidden).Because("UNAUTHORIZED_ACCOUNT")
}
