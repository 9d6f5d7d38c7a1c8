package wire

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
)

// EC2 is the protocol of EC2 alone: a query protocol with lists that are not
// wrapped, and XML of its own.
func EC2() Protocol { return ec2{} }

type ec2 struct{}

const ec2Namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"

func (p ec2) Parse(r *http.Request) (*Request, error) {
	form, err := parseForm(r)
	if err != nil {
		return nil, err
	}
	dryRun, err := strconv.ParseBool(cmp.Or(form.Get("DryRun"), "false"))
	if err != nil {
		return nil, Errorf("InvalidParameterValue", "Value (%s) for parameter DryRun is invalid. Must be true or false.", form.Get("DryRun"))
	}
	form.Del("DryRun")
	return &Request{Protocol: p, Operation: form.Get("Action"), Parameters: form, DryRun: dryRun, decode: func(in any) error {
		tree, err := formTree(form, "")
		if err == nil {
			err = decodeStruct(reflect.ValueOf(in).Elem(), tree, "")
		}
		return ec2Misfit(err)
	}}, nil
}

func ec2Misfit(err error) error {
	m, ok := errors.AsType[*misfit](err)
	if !ok {
		return err
	}
	switch m.way {
	case unknown:
		return Errorf("UnknownParameter", "The parameter %s is not recognized by the sandbox", m.path)
	case missing:
		return Errorf("MissingParameter", "The request must contain the parameter %s", m.path)
	}
	return Errorf("InvalidParameterValue", "The value of the parameter %s is invalid%s", m.path, m.detail)
}

func (p ec2) Encode(operation, requestID string, out any) *Response {
	w := xmlWriter{style: xmlStyle{item: "item", small: true}}
	fmt.Fprintf(&w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<%sResponse xmlns=%q>", operation, ec2Namespace)
	w.text("requestId", requestID)
	w.fields(reflect.ValueOf(out).Elem(), true)
	w.close(operation + "Response")
	return newResponse(http.StatusOK, "text/xml;charset=UTF-8", w.Bytes())
}

func (p ec2) EncodeError(requestID string, err error) *Response {
	e := asError(err, "InternalError")
	w := xmlWriter{}
	w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<Response><Errors><Error>")
	w.text("Code", e.Code)
	w.text("Message", e.Message)
	w.WriteString("</Error></Errors>")
	w.text("RequestID", requestID)
	w.WriteString("</Response>")
	return newResponse(e.status(), "text/xml;charset=UTF-8", w.Bytes())
}

func (p ec2) UnknownOperation(operation string) *Error {
	return Errorf("InvalidAction", "The action %s is not valid for this web service, or not known to the sandbox", operation)
}

func (p ec2) Denied(sentence string) *Error {
	return Errorf("UnauthorizedOperation", "You are not authorized to perform this operation. %s", sentence).With(http.StatusForbidden)
}
