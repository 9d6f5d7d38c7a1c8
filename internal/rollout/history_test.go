package rollout

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestPreviousFollowsWhatWasRolledOut(t *testing.T) {
	type made struct {
		image string
		from  int // 0 for a version that was made by hand
	}
	for name, test := range map[string]struct {
		versions []made // version 1 first
		now      int64
		want     string
	}{
		"one rollout":                          {[]made{{"ami-a", 0}, {"ami-b", 1}}, 2, "ami-a"},
		"a rollout that failed in between":     {[]made{{"ami-a", 0}, {"ami-b", 1}, {"ami-bad", 2}, {"ami-c", 2}}, 4, "ami-b"},
		"a rollout that failed after it":       {[]made{{"ami-a", 0}, {"ami-b", 1}, {"ami-bad", 2}}, 2, "ami-a"},
		"a rollback, which can be taken back":  {[]made{{"ami-a", 0}, {"ami-b", 1}, {"ami-a", 2}}, 3, "ami-b"},
		"a version with other settings only":   {[]made{{"ami-a", 0}, {"ami-b", 1}, {"ami-b", 0}}, 3, "ami-a"},
		"versions made by hand":                {[]made{{"ami-a", 0}, {"ami-b", 0}, {"ami-c", 0}}, 3, "ami-b"},
		"an image that only a parameter names": {[]made{{"ami-a", 0}, {"resolve:ssm:/x", 0}, {"ami-c", 0}}, 3, "ami-a"},
		"nothing before":                       {[]made{{"ami-a", 0}, {"ami-a", 1}}, 2, ""},
		"a first version":                      {[]made{{"ami-a", 0}}, 1, ""},
		"a version whose source was deleted":   {[]made{{"ami-a", 0}, {"", 0}, {"ami-c", 2}}, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			versions := map[int64]ec2types.LaunchTemplateVersion{}
			for i, m := range test.versions {
				if m.image == "" {
					continue
				}
				v := ec2types.LaunchTemplateVersion{
					VersionNumber:      aws.Int64(int64(i + 1)),
					LaunchTemplateData: &ec2types.ResponseLaunchTemplateData{ImageId: aws.String(m.image)},
				}
				if m.from > 0 {
					v.VersionDescription = aws.String(fmt.Sprintf(marker+"%s, made from version %d (0123456789abcdef)", m.image, m.from))
				}
				versions[int64(i+1)] = v
			}
			if got, ok := previous(versions[test.now], versions); got != test.want || ok != (test.want != "") {
				t.Errorf("before version %d came %q, %v, want %q", test.now, got, ok, test.want)
			}
		})
	}
}
