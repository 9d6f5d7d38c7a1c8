package fault

import (
	"net/http"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Err is the error that a service answers when it is struck by the rule; nil
// for kinds that are not answers.
func (r Rule) Err(service, operation string) error {
	switch r.Kind {
	case Throttle:
		by := ByAccount
		if operation == "PutSnapshotBlock" || operation == "GetSnapshotBlock" {
			by = ByResource
		}
		return Throttled(service, by)
	case Error:
		return internal(service)
	case Contention: // https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html
		return wire.Errorf("ResourceContention", "You already have a pending update to an Amazon EC2 Auto Scaling resource (for example, an Auto Scaling group, instance, or load balancer).").With(http.StatusInternalServerError)
	case Unavailable:
		return wire.Errorf("ServiceUnavailable", "The request has failed due to a temporary failure of the server.").With(http.StatusServiceUnavailable)
	}
	return nil
}

// Throttling is the reason that EBS direct gives with its throttling error; the
// other services give none.
type Throttling string

// The reasons.
const (
	ByAccount  Throttling = "ACCOUNT_THROTTLED"
	ByResource Throttling = "RESOURCE_LEVEL_THROTTLE"
)

// Throttled is how a service says that it is called too often:
// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html, the
// models of EBS direct and EC2 Instance Connect, and
// https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html.
func Throttled(service string, by Throttling) error {
	switch service {
	case "ec2":
		return wire.Errorf("RequestLimitExceeded", "Request limit exceeded.").With(http.StatusServiceUnavailable)
	case "ebs":
		return wire.Errorf("RequestThrottledException", "The number of API requests has exceeded the maximum allowed API request throttling limit.").Because(string(by))
	case "ssm", "ec2-instance-connect":
		return wire.Errorf("ThrottlingException", "Rate exceeded")
	}
	return wire.Errorf("Throttling", "Rate exceeded")
}

// internal is how a service says that it failed:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#api-error-codes-table-server,
// the models of EBS direct, SSM and EC2 Instance Connect, and the errors common to the query
// services.
func internal(service string) error {
	code := "InternalFailure"
	switch service {
	case "ec2":
		code = "InternalError"
	case "ebs":
		code = "InternalServerException"
	case "ssm":
		code = "InternalServerError"
	case "ec2-instance-connect":
		code = "ServiceException"
	}
	return wire.Errorf(code, "An internal error has occurred.").With(http.StatusInternalServerError)
}
