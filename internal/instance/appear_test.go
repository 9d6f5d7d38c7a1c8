package instance

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// slow is an account that sees what is made only from a moment on. What it does
// not have here it is not asked for.
type slow struct {
	EC2
	seen   time.Time
	lost   bool // the answer to what is made; it is there all the same
	there  []string
	tokens []string
}

func (s *slow) sees() bool { return !time.Now().Before(s.seen) }

func refuse(code string) error { return &smithy.GenericAPIError{Code: code, Message: code} }

func (s *slow) ImportKeyPair(context.Context, *ec2.ImportKeyPairInput, ...func(*ec2.Options)) (*ec2.ImportKeyPairOutput, error) {
	s.there = append(s.there, "key")
	if s.lost {
		return nil, refuse("InvalidKeyPair.Duplicate")
	}
	return &ec2.ImportKeyPairOutput{KeyPairId: aws.String("key-1")}, nil
}

func (s *slow) remove(what string) bool {
	removed := s.sees() && slices.Contains(s.there, what)
	if removed {
		s.there = slices.DeleteFunc(s.there, func(w string) bool { return w == what })
	}
	return removed
}

func (s *slow) DeleteKeyPair(context.Context, *ec2.DeleteKeyPairInput, ...func(*ec2.Options)) (*ec2.DeleteKeyPairOutput, error) {
	out := &ec2.DeleteKeyPairOutput{Return: aws.Bool(true)}
	if s.remove("key") {
		out.KeyPairId = aws.String("key-1")
	}
	return out, nil
}

func (s *slow) CreateSecurityGroup(context.Context, *ec2.CreateSecurityGroupInput, ...func(*ec2.Options)) (*ec2.CreateSecurityGroupOutput, error) {
	s.there = append(s.there, "group")
	if s.lost {
		return nil, refuse("InvalidGroup.Duplicate")
	}
	return &ec2.CreateSecurityGroupOutput{GroupId: aws.String("sg-1")}, nil
}

func (s *slow) DescribeSecurityGroups(context.Context, *ec2.DescribeSecurityGroupsInput, ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error) {
	out := &ec2.DescribeSecurityGroupsOutput{}
	if s.sees() {
		out.SecurityGroups = []types.SecurityGroup{{GroupId: aws.String("sg-1")}}
	}
	return out, nil
}

func (s *slow) AuthorizeSecurityGroupIngress(context.Context, *ec2.AuthorizeSecurityGroupIngressInput, ...func(*ec2.Options)) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	if !s.sees() {
		return nil, refuse("InvalidGroup.NotFound")
	}
	s.there = append(s.there, "rule")
	return &ec2.AuthorizeSecurityGroupIngressOutput{}, nil
}

func (s *slow) DeleteSecurityGroup(context.Context, *ec2.DeleteSecurityGroupInput, ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error) {
	if !s.remove("group") {
		return nil, refuse("InvalidGroup.NotFound")
	}
	s.remove("rule")
	return &ec2.DeleteSecurityGroupOutput{}, nil
}

func (s *slow) CreateLaunchTemplate(context.Context, *ec2.CreateLaunchTemplateInput, ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateOutput, error) {
	s.there = append(s.there, "template")
	return &ec2.CreateLaunchTemplateOutput{LaunchTemplate: &types.LaunchTemplate{LaunchTemplateId: aws.String("lt-1"), LaunchTemplateName: aws.String("x")}}, nil
}

func (s *slow) DeleteLaunchTemplate(context.Context, *ec2.DeleteLaunchTemplateInput, ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateOutput, error) {
	if !s.remove("template") {
		return nil, refuse("InvalidLaunchTemplateId.NotFound")
	}
	return &ec2.DeleteLaunchTemplateOutput{}, nil
}

// CreateFleet refuses first by an error, and then by errors of its pools: EC2
// has both ways.
func (s *slow) CreateFleet(_ context.Context, in *ec2.CreateFleetInput, _ ...func(*ec2.Options)) (*ec2.CreateFleetOutput, error) {
	s.tokens = append(s.tokens, *in.ClientToken)
	switch {
	case len(s.tokens) == 1 && !s.sees():
		return nil, refuse("InvalidLaunchTemplateId.NotFound")
	case !s.sees():
		return &ec2.CreateFleetOutput{Errors: []types.CreateFleetError{
			{ErrorCode: aws.String("InsufficientInstanceCapacity")}, {ErrorCode: aws.String("InvalidKeyPair.NotFound")},
		}}, nil
	}
	return &ec2.CreateFleetOutput{Instances: []types.CreateFleetInstance{{InstanceIds: []string{"i-1"}}}}, nil
}

func bakery(s *slow) Bakery {
	return Bakery{EC2: s, ID: "1", Run: cloud.Run{ID: "run"}, Ladder: new(ladder.Ladder), Say: func(string) {}}
}

func TestWhatIsSeenLateIsUsedAndRemoved(t *testing.T) {
	for name, lost := range map[string]bool{"answered": false, "with its answer lost": true} {
		for what, do := range map[string]func(context.Context, Bakery) error{
			"a key pair": func(ctx context.Context, b Bakery) error {
				_, err := b.KeyPair(ctx, []byte("ssh-ed25519 AAAA"))
				return err
			},
			"a security group": func(ctx context.Context, b Bakery) error {
				id, err := b.SecurityGroup(ctx, "vpc-1", 22, []string{"0.0.0.0/0"})
				if id != "sg-1" {
					t.Errorf("it is %q", id)
				}
				return err
			},
		} {
			t.Run(what+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &slow{seen: time.Now().Add(time.Minute), lost: lost}
					b := bakery(s)
					if err := do(t.Context(), b); err != nil {
						t.Fatal(err)
					}
					if err := b.Ladder.Back(t.Context()); err != nil || len(s.there) > 0 {
						t.Errorf("there is left %v (%v)", s.there, err)
					}
				})
			})
		}
	}
}

func TestAFleetIsAskedForUntilItsTemplateAndKeyAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{seen: time.Now().Add(time.Minute)}
		id, err := bakery(s).Launch(t.Context(), Launch{Types: []string{"t3.small"}})
		if err != nil || id != "i-1" || len(s.there) > 0 {
			t.Errorf("launched %q, %v is left: %v", id, s.there, err)
		}
		if once := slices.Compact(slices.Clone(s.tokens)); len(once) != len(s.tokens) || len(once) < 3 {
			t.Errorf("the tokens are %q, want another for each attempt", s.tokens)
		}
	})
}

func TestAKeyThatIsNeverSeenIsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{seen: time.Now().Add(time.Hour)}
		_, err := bakery(s).Launch(t.Context(), Launch{Types: []string{"t3.small"}})
		if err == nil || !strings.Contains(err.Error(), "InvalidKeyPair.NotFound") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnInterruptEndsTheWaitForWhatIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{seen: time.Now().Add(time.Minute)}
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		began := time.Now()
		if _, err := bakery(s).Launch(ctx, Launch{Types: []string{"t3.small"}}); err == nil {
			t.Error("there is no error")
		}
		if len(s.tokens) > 10 || len(s.there) > 0 {
			t.Errorf("asked %d times in %s; left is %v", len(s.tokens), time.Since(began), s.there)
		}
	})
}
