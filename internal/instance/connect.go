package instance

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2instanceconnect"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// Connector is EC2 Instance Connect: it is satisfied by
// *ec2instanceconnect.Client.
type Connector interface {
	SendSSHPublicKey(context.Context, *ec2instanceconnect.SendSSHPublicKeyInput, ...func(*ec2instanceconnect.Options)) (*ec2instanceconnect.SendSSHPublicKeyOutput, error)
}

// PushKey lets a public key, in the format of authorized_keys, in as a user of an
// instance, for 60 seconds.
func PushKey(ctx context.Context, api Connector, i types.Instance, user string, public []byte) error {
	_, err := api.SendSSHPublicKey(ctx, &ec2instanceconnect.SendSSHPublicKeyInput{
		InstanceId: i.InstanceId, InstanceOSUser: &user, SSHPublicKey: aws.String(string(public)),
	})
	if err != nil {
		return fmt.Errorf("push a key to %s for %s (ec2-instance-connect:SendSSHPublicKey): %w", aws.ToString(i.InstanceId), user, err)
	}
	return nil
}

// passing are the answers to an instance that is not ready yet.
var passing = []string{"EC2InstanceNotFoundException", "EC2InstanceStateInvalidException", "EC2InstanceUnavailableException"}

// Unpushable tells whether an error of PushKey's stays however often it is tried.
func Unpushable(err error) bool {
	return err != nil && cloud.Refused(err) && !slices.Contains(passing, cloud.Code(err))
}
