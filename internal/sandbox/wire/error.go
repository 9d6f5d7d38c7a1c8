package wire

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is an answer that is AWS's way of saying no.
type Error struct {
	Code    string // AWS's code, for instance InvalidAMIID.NotFound
	Message string
	Status  int    // HTTP status; 400 when zero
	Reason  string // only of services whose errors carry one (ebs)
}

// Errorf makes an Error with status 400, which is what most of AWS's have.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// With returns the error with another HTTP status.
func (e *Error) With(status int) *Error {
	e.Status = status
	return e
}

// Because returns the error with a reason.
func (e *Error) Because(reason string) *Error {
	e.Reason = reason
	return e
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func (e *Error) status() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// asError finds the Error in err. Any other error is the sandbox's own
// failure and becomes a 500 under the given code.
func asError(err error, internal string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: internal, Message: err.Error(), Status: http.StatusInternalServerError}
}
