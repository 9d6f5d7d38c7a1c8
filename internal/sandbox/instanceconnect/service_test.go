package instanceconnect_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/instanceconnect"
)

const (
	running, stopped = "i-00000000000000001", "i-00000000000000002"
	arn              = "arn:aws:ec2:eu-west-1:123456789012:instance/"
	key              = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJWsMTY0hMSHFMNDvQ6VXzCc1pbm4GEjpdwqNJOpWlE"
	ecdsa            = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
)

// instances are an EC2 of one running and one stopped instance.
type instances struct{ pushed []string }

func (*instances) ConnectPlace(_, id string) (ec2.ConnectPlace, bool) {
	state, found := map[string]ec2.InstanceState{running: ec2.Running, stopped: ec2.Stopped}[id]
	return ec2.ConnectPlace{ARN: arn + id, State: state, Zone: "eu-west-1a"}, found
}

func (i *instances) PushKey(_, id, user, key, caller, _ string, stays time.Duration) {
	i.pushed = append(i.pushed, id, user, key, caller, stays.String())
}

func serve(t *testing.T) (*ec2instanceconnect.Client, *instances, *doortest.Notes) {
	t.Helper()
	books, clock, notes, all := doortest.Books(t), doortest.Clock(t), &doortest.Notes{}, &instances{}
	server := doortest.ServerOf(t, door.Config{Books: books, Clock: clock, Guard: notes, Services: []*api.Service{instanceconnect.New(clock, all)}})
	return ec2instanceconnect.NewFromConfig(doortest.Config(server)), all, notes
}

func TestKeyIsPushedForAMinute(t *testing.T) {
	client, all, notes := serve(t)
	out, err := client.SendSSHPublicKey(t.Context(), &ec2instanceconnect.SendSSHPublicKeyInput{
		InstanceId: aws.String(running), InstanceOSUser: aws.String("ec2-user"), SSHPublicKey: aws.String(key), AvailabilityZone: aws.String("eu-west-1a"),
	})
	if err != nil || !out.Success || aws.ToString(out.RequestId) == "" {
		t.Fatalf("answered %+v: %v", out, err)
	}
	if want := []string{running, "ec2-user", key, "arn:aws:iam::123456789012:user/AKIATEST", "1m0s"}; !slices.Equal(all.pushed, want) {
		t.Errorf("pushed %q, want %q", all.pushed, want)
	}
	if got, want := notes.Take(), []string{"ec2-instance-connect:SendSSHPublicKey " + arn + running}; !slices.Equal(got, want) {
		t.Errorf("needs %q, want %q", got, want)
	}
}

func TestKeyIsRefused(t *testing.T) {
	client, all, _ := serve(t)
	for name, test := range map[string]struct {
		id, user, key, zone string
		code                string
	}{
		"no such instance":       {"i-00000000000000003", "ec2-user", key, "", "EC2InstanceNotFoundException"},
		"in another zone":        {running, "ec2-user", key, "eu-west-1b", "EC2InstanceNotFoundException"},
		"an instance that rests": {stopped, "ec2-user", key, "", "EC2InstanceStateInvalidException"},
		"no id":                  {"running-instance", "ec2-user", key, "", "InvalidArgsException"},
		"no user":                {running, "ec2 user", key, "", "InvalidArgsException"},
		"no key":                 {running, "ec2-user", "ssh-ed25519 " + key, "", "InvalidArgsException"},
		"a short key":            {running, "ec2-user", "ssh-ed25519", "", "InvalidArgsException"},
		"a key of another type":  {running, "ec2-user", ecdsa, "", "InvalidArgsException"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &ec2instanceconnect.SendSSHPublicKeyInput{InstanceId: &test.id, InstanceOSUser: &test.user, SSHPublicKey: &test.key}
			if test.zone != "" {
				in.AvailabilityZone = &test.zone
			}
			_, err := client.SendSSHPublicKey(t.Context(), in)
			if refused := smithy.APIError(nil); !errors.As(err, &refused) || refused.ErrorCode() != test.code {
				t.Errorf("answered %v, want %s", err, test.code)
			}
		})
	}
	if len(all.pushed) > 0 {
		t.Errorf("pushed %q", all.pushed)
	}
}
