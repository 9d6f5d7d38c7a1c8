package instance

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// errEnough ends builds of which only the launch is looked at.
var errEnough = errors.New("enough")

func enough(context.Context, map[string]any) error { return errEnough }

func TestCapacityIsFallenBackOver(t *testing.T) {
	for name, test := range map[string]struct {
		options  map[string]any
		lacks    string
		instance types.InstanceType
		market   types.InstanceLifecycleType
		zone     string // any if empty
		says     []string
	}{
		"to the second type": {
			lacks:    `shortage { instance_type = "t3.small" }`,
			instance: "t3a.small",
			says:     []string{"on-demand, t3.small in subnet-", "InsufficientInstanceCapacity: "},
		},
		"to another zone": {
			options: map[string]any{"instance_types": []string{"t3.small"}},
			lacks: `shortage { zone = "eu-west-1a" }
				shortage { zone = "eu-west-1b" }`,
			instance: "t3.small",
			zone:     "eu-west-1c",
		},
		"from Spot to On-Demand": {
			options: map[string]any{"spot": true},
			lacks: `shortage {
					lifecycle = "spot"
					code      = "MaxSpotInstanceCountExceeded"
				}`,
			instance: "t3.small",
			says:     []string{"spot, t3.small in subnet-", "MaxSpotInstanceCountExceeded: "},
		},
		"by Spot": {
			options: map[string]any{"spot": true},
			lacks: `shortage {
					instance_type = "t3.small"
					lifecycle     = "spot"
				}`,
			instance: "t3a.small",
			market:   types.InstanceLifecycleTypeSpot,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLocal(t, lacking(test.lacks))
			if _, err := l.build(t.Context(), test.options, enough); !errors.Is(err, errEnough) {
				t.Fatal(err)
			}
			launched := l.instances()
			if len(launched) != 1 || launched[0].InstanceType != test.instance || launched[0].InstanceLifecycle != test.market {
				t.Errorf("launched %d: %s, %q", len(launched), launched[0].InstanceType, launched[0].InstanceLifecycle)
			}
			if zone := *launched[0].Placement.AvailabilityZone; test.zone != "" && zone != test.zone {
				t.Errorf("launched in %s, want %s", zone, test.zone)
			}
			for _, part := range test.says {
				if !strings.Contains(l.said.String(), part) {
					t.Errorf("it did not say %q", part)
				}
			}
			l.assertLeft()
		})
	}
}

func TestEveryRefusalIsInTheError(t *testing.T) {
	l := openLocal(t, lacking(`shortage {}`))
	_, err := l.build(t.Context(), map[string]any{"spot": true, "instance_types": []string{"t3.small", "m5.large"}}, nil)
	if err == nil {
		t.Fatal("an instance was launched")
	}
	subnets, failure := l.subnets(), err.Error()
	says(t, err, "AWS refused every type and subnet", " (eu-west-1a): ", " (eu-west-1b): ", "add instance_types or subnets, or try again later")
	for _, market := range []string{"spot", "on-demand"} {
		for _, kind := range []string{"t3.small", "m5.large"} {
			for _, subnet := range subnets {
				if want := market + ", " + kind + " in " + subnet; !strings.Contains(failure, want) {
					t.Errorf("the error has no %q:\n%s", want, failure)
				}
			}
		}
	}
	if want := "InsufficientInstanceCapacity: "; strings.Count(failure, want) != 4*len(subnets) {
		t.Errorf("the error does not give a reason for each pool:\n%s", failure)
	}
	l.assertLeft()
}

// lacking is a scenario in which capacity is short from the first call on.
func lacking(shortages string) string {
	return "step {\n  call = \"sts:GetCallerIdentity\"\n  capacity {\n" + shortages + "\n  }\n}\n"
}

func (l *local) subnets() (ids []string) {
	l.t.Helper()
	out, err := l.ec2.DescribeSubnets(l.t.Context(), &ec2.DescribeSubnetsInput{})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, s := range out.Subnets {
		ids = append(ids, aws.ToString(s.SubnetId))
	}
	return ids
}
