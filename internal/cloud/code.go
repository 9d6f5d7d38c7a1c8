package cloud

import (
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Code is AWS's code for the error, such as "InvalidAMIName.Duplicate", or ""
// if err is not an answer of AWS's.
func Code(err error) string {
	if api := smithy.APIError(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Refused tells whether err is AWS's answer that the call is at fault. All other
// errors say nothing of whether an attempt at the call was carried out: when an
// answer is lost, or the service fails behind it, it may have been.
func Refused(err error) bool {
	if response := (*smithyhttp.ResponseError)(nil); errors.As(err, &response) && response.HTTPStatusCode() >= http.StatusInternalServerError {
		return false
	}
	return Code(err) != "" && !Throttled(err)
}

// Throttled tells whether err is AWS's answer that it is asked too often, which
// it gives until the attempts of the call are used up.
func Throttled(err error) bool {
	_, throttled := retry.DefaultThrottleErrorCodes[Code(err)]
	return throttled
}
