package ec2

import (
	"errors"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// fail is an error of EC2's API. The codes and messages are those of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
// as far as that has them, else those that callers have reported.
func fail(code, format string, args ...any) error { return wire.Errorf(code, format, args...) }

// codeOf gives the code of an error of EC2's API.
func codeOf(err error) string {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Code
	}
	return ""
}

func missing(parameter string) error {
	return fail("MissingParameter", "The request must contain the parameter %s", parameter)
}

func invalidValue(value, parameter, why string) error {
	return fail("InvalidParameterValue", "Value (%s) for parameter %s is invalid. %s", value, parameter, why)
}

// succeeded is the answer of operations that have none but success.
type succeeded struct{ Return bool }
