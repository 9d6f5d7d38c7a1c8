package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"
	"github.com/hashicorp/packer-plugin-sdk/communicator"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/packerbuilderdata"
	"golang.org/x/crypto/ssh"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/instance"
)

// stepConnect connects to the instance as soon as it has an address and answers
// there. An instance that ends instead ends the waiting, with AWS's reason.
type stepConnect struct {
	*build
	connect multistep.Step
	pushing error // why a key could not be pushed the last time
}

func (s *stepConnect) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.find(ctx); err != nil {
		return base.Fail(state, err)
	}
	generated := packerbuilderdata.GeneratedData{State: state}
	generated.Put("InstanceID", aws.ToString(s.instance.InstanceId))
	generated.Put("InstanceType", string(s.instance.InstanceType))

	connecting, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	id := aws.ToString(s.instance.InstanceId)
	go func() {
		if err := s.bakery.Watch(connecting, id); err != nil {
			stop(err)
		}
	}()
	s.answering(connecting)
	s.connect = &communicator.StepConnect{
		Config:    &s.config.Comm,
		Host:      communicator.CommHost(s.config.Comm.Host(), stateHost),
		SSHConfig: s.configure(ctx, stop),
	}
	state.Put(stateHost, s.address())
	action := s.connect.Run(connecting, state)
	if cause := context.Cause(connecting); action == multistep.ActionHalt && cause != nil && ctx.Err() == nil {
		return base.Fail(state, cause)
	}
	if action == multistep.ActionHalt {
		return base.Fail(state, s.explain(ctx, state))
	}
	return action
}

// configure gives the way to log in. With EC2 Instance Connect a key is pushed
// whenever one is asked for, because it is good for a minute only, and the
// instance may be connected to again after a reboot. Where that can't succeed
// there is no more waiting.
func (s *stepConnect) configure(ctx context.Context, giveUp context.CancelCauseFunc) func(multistep.StateBag) (*ssh.ClientConfig, error) {
	plain, c := s.config.Comm.SSHConfigFunc(), &s.config.Comm
	if s.config.SSHInterface != byConnect {
		return plain
	}
	api := ec2instanceconnect.NewFromConfig(s.aws)
	return func(state multistep.StateBag) (*ssh.ClientConfig, error) {
		config, err := plain(state)
		if err != nil {
			return nil, err
		}
		key, err := ssh.ParsePrivateKey(c.SSHPrivateKey)
		if err != nil {
			return nil, fmt.Errorf("read the temporary key: %w", err)
		}
		config.Auth = []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			s.pushing = instance.PushKey(ctx, api, s.instance, c.SSHUsername, c.SSHPublicKey)
			if instance.Unpushable(s.pushing) {
				giveUp(s.pushing)
			}
			return []ssh.Signer{key}, s.pushing
		})}
		return config, nil
	}
}

// stateHost is where the state has the address for the communicator.
const stateHost = "immutable_host"

// Cleanup leaves, and looks whether a build has failed because its instance was
// gone.
func (s *stepConnect) Cleanup(state multistep.StateBag) {
	_, cancelled := state.GetOk(multistep.StateCancelled)
	if err, failed := state.Get("error").(error); failed && !cancelled && !s.over && base.Result(state) != nil {
		state.Put("error", s.bakery.Explain(context.Background(), aws.ToString(s.instance.InstanceId), err))
	}
	if s.connect != nil {
		s.connect.Cleanup(state)
	}
}

// find waits until the instance has the address at which it is reached.
func (s *stepConnect) find(ctx context.Context) (err error) {
	id := aws.ToString(s.instance.InstanceId)
	s.instance, err = s.bakery.Ready(ctx, id, "has an address", func(i types.Instance) bool {
		s.instance = i
		// A private address is there at once. Only when the instance runs is it
		// sure that no public one will come.
		return s.address() != "" && (i.State.Name == types.InstanceStateNameRunning || s.address() != aws.ToString(i.PrivateIpAddress))
	})
	return err
}

// address is where the instance is reached; "" if it is not known yet.
func (s *stepConnect) address() string {
	by := s.config.SSHInterface
	if by != "" && by != byConnect {
		return instance.Address(s.instance, by)
	}
	if public := instance.Address(s.instance, "public_ip"); public != "" {
		return public
	}
	return instance.Address(s.instance, "private_ip")
}

// answering returns when the SSH server says its name, or when nobody is to
// wait for it: the communicator tries only every five seconds, and goes by other
// ways, such as a bastion, by itself.
func (s *stepConnect) answering(ctx context.Context) {
	c := s.config.Comm
	if c.SSHBastionHost != "" || c.SSHProxyHost != "" || c.SSHHost != "" {
		return
	}
	ctx, stop := context.WithTimeout(ctx, c.SSHTimeout)
	defer stop()
	address := net.JoinHostPort(s.address(), strconv.Itoa(c.Port()))
	for answers(ctx, address) != nil {
		if cloud.Sleep(ctx, 250*time.Millisecond) != nil {
			return
		}
	}
}

// answers asks an SSH server for the first bytes of its banner.
func answers(ctx context.Context, address string) (err error) {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := connection.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	_, err = connection.Read(make([]byte, 4))
	return err
}

// explain adds to the communicator's error what the operator can look at.
func (s *stepConnect) explain(ctx context.Context, state multistep.StateBag) error {
	err, ok := state.Get("error").(error)
	if !ok || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.pushing != nil {
		return s.pushing
	}
	if s.config.SSHInterface == byConnect {
		return fmt.Errorf("connect to %s at %s as %s by EC2 Instance Connect: %w; does the security group let this machine in, and has the base the package ec2-instance-connect?",
			aws.ToString(s.instance.InstanceId), s.address(), s.config.Comm.SSHUsername, err)
	}
	return fmt.Errorf("connect to %s at %s as %s: %w; does the security group let this machine in, does the subnet have a route, and is %q the image's user?",
		aws.ToString(s.instance.InstanceId), s.address(), s.config.Comm.SSHUsername, err, s.config.Comm.SSHUsername)
}
