package wire

import (
	"net/http"
	"path"
	"reflect"
)

// QueryOrNewer is Query for a service that newer clients speak to in other ways,
// which is cloudwatch: the AWS SDK for Go in Smithy's RPC v2 CBOR
// (https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html), recent
// releases of the AWS CLI and boto3 in JSON with the target, Debian's in Query.
func QueryOrNewer(namespace, target string) Protocol {
	return queryOrNewer{query{namespace}, JSON(target)}
}

type queryOrNewer struct {
	query
	json Protocol
}

func (p queryOrNewer) Parse(r *http.Request) (*Request, error) {
	switch {
	case r.Header.Get("Smithy-Protocol") == smithyProtocol:
		return rpc{p.query}.Parse(r)
	case r.Header.Get("X-Amz-Target") != "":
		return p.json.Parse(r)
	}
	return p.query.Parse(r)
}

const smithyProtocol = "rpc-v2-cbor"

// rpc is the RPC v2 CBOR protocol of a service that also speaks query, whose
// errors it has: the operation is the last part of the path.
type rpc struct{ query }

func (p rpc) Parse(r *http.Request) (*Request, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	return &Request{Protocol: p, Operation: path.Base(r.URL.Path), decode: func(in any) error {
		tree, err := cborTree(body)
		if err == nil {
			err = decodeStruct(reflect.ValueOf(in).Elem(), tree, "")
		}
		return queryMisfit(err)
	}}, nil
}

func (p rpc) Encode(_, requestID string, out any) *Response {
	w := cborWriter{}
	w.fields(reflect.ValueOf(out).Elem(), true)
	return p.response(http.StatusOK, requestID, w.Bytes())
}

func (p rpc) EncodeError(requestID string, err error) *Response {
	e := asError(err, "InternalFailure")
	w := cborWriter{}
	w.head(cborMap, 2)
	w.text("__type")
	w.text(e.Code)
	w.text("message")
	w.text(e.Message)
	r := p.response(e.status(), requestID, w.Bytes())
	r.Header.Set("X-Amzn-Query-Error", e.Code+";"+fault(e.status()))
	return r
}

func (p rpc) response(status int, requestID string, body []byte) *Response {
	r := newResponse(status, "application/cbor", body)
	r.Header.Set("Smithy-Protocol", smithyProtocol)
	r.Header.Set("X-Amzn-Requestid", requestID)
	return r
}
