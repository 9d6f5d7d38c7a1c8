// Package instanceconnect is the sandbox's EC2 Instance Connect: it puts login
// keys into instances' metadata for a minute. That the instance lets them in is
// its own doing: sshd's AuthorizedKeysCommand reads them there.
package instanceconnect

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Instances are EC2's; *ec2.Service is them. The books are held at every call.
type Instances interface {
	ConnectPlace(region, id string) (ec2.ConnectPlace, bool)
	PushKey(region, id, user, key, caller, request string, stays time.Duration)
}

type service struct {
	clock     *clock.Clock
	instances Instances
}

// New makes the service.
func New(clock *clock.Clock, instances Instances) *api.Service {
	s := service{clock, instances}
	r := api.NewService("ec2-instance-connect", wire.JSON("AWSEC2InstanceConnectService"))
	api.Register(r, "SendSSHPublicKey", s.sendSSHPublicKey)
	return r
}

// stays is how long a pushed key may be used: "The key remains for 60 seconds"
// (https://docs.aws.amazon.com/ec2-instance-connect/latest/APIReference/API_SendSSHPublicKey.html,
// as are all rules here).
const stays = time.Minute

type sendSSHPublicKeyInput struct {
	AvailabilityZone string
	InstanceId       string `wire:",,required"`
	InstanceOSUser   string `wire:",,required"`
	SSHPublicKey     string `wire:",,required"`
}

type sendSSHPublicKeyOutput struct {
	RequestId string
	Success   bool
}

func (s service) sendSSHPublicKey(_ context.Context, c *api.Call, in *sendSSHPublicKeyInput) (*sendSSHPublicKeyOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	place, found := s.instances.ConnectPlace(c.Region, in.InstanceId)
	if !found || in.AvailabilityZone != "" && in.AvailabilityZone != place.Zone {
		return nil, wire.Errorf("EC2InstanceNotFoundException", "Instance not found: %s", in.InstanceId).With(http.StatusNotFound)
	}
	c.On(place.ARN)
	if place.State != ec2.Running {
		return nil, wire.Errorf("EC2InstanceStateInvalidException", "Unable to connect because the instance is not in a valid state. Only running instances can be connected to: %s is %s", in.InstanceId, place.State)
	}
	s.instances.PushKey(c.Region, in.InstanceId, in.InstanceOSUser, in.SSHPublicKey, c.User(), c.RequestID, s.clock.Interval(stays))
	return &sendSSHPublicKeyOutput{RequestId: c.RequestID, Success: true}, nil
}

var (
	instanceID = regexp.MustCompile(`^i-[a-f0-9]{8,30}$`)
	osUser     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9@._-]{0,30}[A-Za-z0-9$_-]?$`)
)

func (in *sendSSHPublicKeyInput) check() error {
	if !instanceID.MatchString(in.InstanceId) {
		return invalid("instanceId %q is not the ID of an instance", in.InstanceId)
	}
	if !osUser.MatchString(in.InstanceOSUser) {
		return invalid("instanceOSUser %q is not a user's name", in.InstanceOSUser)
	}
	if n := len(in.SSHPublicKey); n < 80 || n > 4096 {
		return invalid("sSHPublicKey has %d characters; it has 80 to 4096", n)
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(in.SSHPublicKey))
	if err != nil || len(options) > 0 {
		return invalid("sSHPublicKey is not a public key")
	}
	if kind := key.Type(); kind != ssh.KeyAlgoRSA && kind != ssh.KeyAlgoED25519 {
		return invalid("sSHPublicKey is of the type %s; RSA and ED25519 are supported", kind)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidArgsException", "Invalid argument(s): "+format, args...)
}
