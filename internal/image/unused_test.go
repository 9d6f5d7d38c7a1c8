package image

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// instances answers with instances, or with an error.
type instances struct {
	ids []string
	err error
}

func (f instances) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	if f.err != nil {
		return nil, f.err
	}
	if in.Filters[0].Values[0] != "ami-1" {
		return nil, errors.New("asked for another image")
	}
	var reservation types.Reservation
	for _, id := range f.ids {
		reservation.Instances = append(reservation.Instances, types.Instance{InstanceId: aws.String(id)})
	}
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{reservation}}, nil
}

func TestUnused(t *testing.T) {
	for _, test := range []struct {
		name string
		api  instances
		want string
	}{
		{"no instances", instances{}, ""},
		{"instances", instances{ids: []string{"i-1", "i-2"}}, "i-1, i-2"},
		{"not allowed to ask", instances{err: errors.New("UnauthorizedOperation")}, "UnauthorizedOperation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Unused(t.Context(), test.api, "ami-1")
			if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Unused() = %v, want %q in it", err, test.want)
			}
		})
	}
}
