package cloud

import (
	"errors"

	"github.com/aws/smithy-go"
)

// Code is AWS's code for the error, such as "InvalidAMIName.Duplicate", or ""
// if err is not an answer of AWS's.
func Code(err error) string {
	if api := smithy.APIError(nil); errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
