// Package instance is about the EC2 instance that an image is baked on: it is
// launched wherever there is capacity, reached, stopped, and its root volume
// becomes a snapshot or an image.
//
//	appear.go    what was just made may not be seen yet
//	access.go    the key pair and the security group that are made for it
//	subnets.go   where it may run
//	fleet.go     its launch, with EC2 Fleet
//	connect.go   a key for it by EC2 Instance Connect
//	state.go     its states, and waiting for them
//	finish.go    what is made of it
package instance

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// EC2 is satisfied by *ec2.Client.
type EC2 interface {
	keys
	groups
	places
	launcher
	machines
	volumes
}

// Bakery makes instances for one bake.
type Bakery struct {
	EC2    EC2
	Region string
	Run    cloud.Run
	// ID tells this bake from the others of the run.
	ID string
	// Tags are put on all that is made, beside those of the run.
	Tags map[string]string
	// Ladder is given what undoes whatever is made.
	Ladder *ladder.Ladder
	Say    func(line string)
}

// begin makes something, so that an interrupt does not cut it short: what
// nobody knows of nobody can remove.
func begin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 2*cloud.AttemptTimeout)
}

func (b Bakery) tagged(kinds ...types.ResourceType) []types.TagSpecification {
	var all []types.TagSpecification
	for _, kind := range kinds {
		all = append(all, types.TagSpecification{ResourceType: kind, Tags: tags.List(b.Run.Tags(b.Tags))})
	}
	return all
}

// name is that of what is made only for this bake.
func (b Bakery) name() string { return "packer-" + b.ID }

// token is the same whenever this bake asks for the same, so that a call that is
// repeated because its answer was lost does nothing twice.
func (b Bakery) token(what string) string { return b.ID + "-" + what }

// reason puts AWS's own words on a state into one line.
func reason(i types.Instance) string {
	text := ""
	if i.State != nil {
		text = string(i.State.Name)
	}
	if i.StateReason != nil && i.StateReason.Message != nil {
		text += ": " + *i.StateReason.Message
	}
	if i.StateTransitionReason != nil && *i.StateTransitionReason != "" {
		text += fmt.Sprintf(" (%s)", *i.StateTransitionReason)
	}
	return text
}

type machines interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	StopInstances(context.Context, *ec2.StopInstancesInput, ...func(*ec2.Options)) (*ec2.StopInstancesOutput, error)
	TerminateInstances(context.Context, *ec2.TerminateInstancesInput, ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error)
	GetInstanceUefiData(context.Context, *ec2.GetInstanceUefiDataInput, ...func(*ec2.Options)) (*ec2.GetInstanceUefiDataOutput, error)
}
