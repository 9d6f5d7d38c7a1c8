package wire

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
)

// Query is the AWS query protocol of autoscaling, elasticloadbalancing and
// sts. Namespace is the XML namespace of the service's responses.
func Query(namespace string) Protocol { return query{namespace} }

type query struct{ namespace string }

func (p query) Parse(r *http.Request) (*Request, error) {
	form, err := parseForm(r)
	if err != nil {
		return nil, err
	}
	return &Request{Protocol: p, Operation: form.Get("Action"), decode: func(in any) error {
		tree, err := formTree(form, "member")
		if err == nil {
			err = decodeStruct(reflect.ValueOf(in).Elem(), tree, "")
		}
		return queryMisfit(err)
	}}, nil
}

func queryMisfit(err error) error {
	m, ok := errors.AsType[*misfit](err)
	if !ok {
		return err
	}
	switch m.way {
	case unknown:
		return Errorf("ValidationError", "The parameter %s is not recognized by the sandbox", m.path)
	case missing:
		return Errorf("ValidationError", "The request must contain the parameter %s", m.path)
	}
	return Errorf("ValidationError", "The value of the parameter %s does not fit%s", m.path, m.detail)
}

func (p query) Encode(operation, requestID string, out any) *Response {
	w := xmlWriter{style: xmlStyle{item: "member"}}
	fmt.Fprintf(&w, "<%sResponse xmlns=%q>", operation, p.namespace)
	w.open(operation + "Result")
	w.fields(reflect.ValueOf(out).Elem(), true)
	w.close(operation + "Result")
	w.open("ResponseMetadata")
	w.text("RequestId", requestID)
	w.close("ResponseMetadata")
	w.close(operation + "Response")
	return p.response(http.StatusOK, requestID, w.Bytes())
}

func (p query) EncodeError(requestID string, err error) *Response {
	e := asError(err, "InternalFailure")
	w := xmlWriter{}
	fmt.Fprintf(&w, "<ErrorResponse xmlns=%q>", p.namespace)
	w.open("Error")
	w.text("Type", fault(e.status()))
	w.text("Code", e.Code)
	w.text("Message", e.Message)
	w.close("Error")
	w.text("RequestId", requestID)
	w.close("ErrorResponse")
	return p.response(e.status(), requestID, w.Bytes())
}

func (p query) response(status int, requestID string, body []byte) *Response {
	r := newResponse(status, "text/xml", body)
	r.Header.Set("X-Amzn-Requestid", requestID)
	return r
}

func (p query) UnknownOperation(operation string) *Error {
	return Errorf("InvalidAction", "Could not find operation %s in the sandbox", operation)
}

func (p query) Denied(sentence string) *Error {
	return Errorf("AccessDenied", "%s", sentence).With(http.StatusForbidden)
}

// fault says whose fault an error with the given status is.
func fault(status int) string {
	if status >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}
