package wire

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Protocol is one of AWS's protocols as one service speaks it.
type Protocol interface {
	// Parse reads what can be known of a request without knowing the
	// operation's parameters. The operation's name is set even when the
	// service has no such operation.
	Parse(*http.Request) (*Request, error)
	// Encode writes the outcome of an operation; out is a pointer to a
	// struct.
	Encode(operation, requestID string, out any) *Response
	// EncodeError writes an error. One that holds no *Error is an internal
	// failure.
	EncodeError(requestID string, err error) *Response
	// UnknownOperation is the service's error for an operation it lacks.
	UnknownOperation(operation string) *Error
	// Denied is the service's error for what a caller is not permitted; the
	// sentence says who, what and why.
	Denied(sentence string) *Error
}

// Request is a parsed request.
type Request struct {
	Protocol  Protocol // in which it was made, and is to be answered
	Operation string
	DryRun    bool // only EC2 has it

	// Parameters are those of the query, of EC2 alone.
	Parameters url.Values

	decode func(in any) error
}

// Decode fills the struct that in points to with the request's parameters.
func (r *Request) Decode(in any) error { return r.decode(in) }

// Response is a response that is not sent yet.
type Response struct {
	Status int
	Header http.Header
	Body   []byte

	release func() // gives the body back; may be nil
}

// Release tells that the response is sent, or never will be. Its body must not
// be used any more.
func (r *Response) Release() {
	if r.release != nil {
		r.release()
	}
}

func newResponse(status int, contentType string, body []byte) *Response {
	r := &Response{Status: status, Header: http.Header{}, Body: body}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// WriteTo sends the response.
func (r *Response) WriteTo(w http.ResponseWriter) error {
	r.WriteHead(w)
	_, err := w.Write(r.Body)
	return err
}

// WriteHead sends the status and the headers, and with them the length of the
// body, which the caller sends.
func (r *Response) WriteHead(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range r.Header {
		header[name] = values
	}
	header.Set("Content-Length", fmt.Sprint(len(r.Body)))
	w.WriteHeader(r.Status)
}

// maxBody is the longest request that is read into memory. AWS's own limits
// are lower; the largest real one is RunInstances with 16 KiB of user data.
const maxBody = 4 << 20

func readBody(r *http.Request) ([]byte, error) {
	var body bytes.Buffer
	n, err := io.Copy(&body, io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	if n > maxBody {
		return nil, Errorf("RequestEntityTooLarge", "The request is longer than %d bytes", maxBody).With(http.StatusRequestEntityTooLarge)
	}
	return body.Bytes(), nil
}
