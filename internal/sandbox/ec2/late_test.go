package ec2

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
)

// late is a client whose creations are seen late.
func (w *world) late(lag time.Duration) *ec2.Client {
	w.Helper()
	rule := fault.Rule{Operations: "ec2:*", Kind: fault.Late, When: fault.Before, Rate: 1, For: lag}
	return ec2.NewFromConfig(doortest.Config(doortest.ServerOf(w.T, door.Config{
		Books: w.books, Clock: w.service.clock, Faults: fault.New(1, rule), Services: []*api.Service{w.service.API()},
	})))
}

func TestWhatWasCreatedIsNotFoundBeforeItsMoment(t *testing.T) {
	w := newWorld(t)
	late := w.late(time.Hour)
	seenImage := w.image("seen")
	zone := aws.String(doortest.Region + "a")
	for name, test := range map[string]struct {
		create func() (id *string, err error)
		use    func(id *string) error
		code   string
		shown  func() int // how many of the kind a Describe of all shows
	}{
		"an image": {
			func() (*string, error) {
				out, err := late.RegisterImage(t.Context(), w.ami("late"))
				return out.ImageId, err
			},
			func(id *string) error {
				_, err := w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*id}})
				return err
			}, "InvalidAMIID.NotFound",
			func() int {
				out, err := w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"late"}}}})
				if err != nil {
					t.Error(err)
				}
				return len(out.Images)
			},
		},
		"an instance": {
			func() (*string, error) {
				out, err := late.RunInstances(t.Context(), single(seenImage))
				return out.Instances[0].InstanceId, err
			},
			func(id *string) error {
				_, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*id}})
				return err
			}, "InvalidInstanceID.NotFound",
			func() int {
				out, err := w.DescribeInstances(t.Context(), nil)
				if err != nil {
					t.Error(err)
				}
				return len(out.Reservations)
			},
		},
		"a volume": {
			func() (*string, error) {
				out, err := late.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(1)})
				return out.VolumeId, err
			},
			func(id *string) error {
				_, err := w.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: id})
				return err
			}, "InvalidVolume.NotFound", nil,
		},
		"a copied snapshot": {
			func() (*string, error) {
				out, err := late.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String(doortest.Region), SourceSnapshotId: aws.String(w.snapshot(1))})
				return out.SnapshotId, err
			},
			func(id *string) error {
				_, err := w.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*id}})
				return err
			}, "InvalidSnapshot.NotFound", nil,
		},
		"a launch template": {
			func() (*string, error) {
				out, err := late.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{
					LaunchTemplateName: aws.String("late"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &seenImage},
				})
				return out.LaunchTemplate.LaunchTemplateId, err
			},
			func(id *string) error {
				_, err := w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: id})
				return err
			}, "InvalidLaunchTemplateId.NotFound",
			func() int {
				out, err := w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}})
				if err != nil {
					t.Error(err)
				}
				return len(out.LaunchTemplateVersions)
			},
		},
		"a key pair": {
			func() (*string, error) {
				out, err := late.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("late")})
				return out.KeyName, err
			},
			func(name *string) error {
				_, err := w.DescribeKeyPairs(t.Context(), &ec2.DescribeKeyPairsInput{KeyNames: []string{*name}})
				return err
			}, "InvalidKeyPair.NotFound",
			func() int {
				out, err := w.DescribeKeyPairs(t.Context(), nil)
				if err != nil {
					t.Error(err)
				}
				return len(out.KeyPairs)
			},
		},
		"a security group": {
			func() (*string, error) {
				out, err := late.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String("late"), Description: aws.String("late")})
				return out.GroupId, err
			},
			func(id *string) error {
				_, err := w.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{
					GroupId: id, IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), CidrIp: aws.String("0.0.0.0/0"),
				})
				return err
			}, "InvalidGroup.NotFound",
			func() int {
				out, err := w.DescribeSecurityGroupRules(t.Context(), nil)
				if err != nil {
					t.Error(err)
				}
				groups := map[string]bool{} // the default one has rules too
				for _, rule := range out.SecurityGroupRules {
					groups[*rule.GroupId] = true
				}
				return len(groups) - 1
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := test.create()
			if err != nil {
				t.Fatal(err)
			}
			refused(t, test.use(id), test.code)
			if test.shown != nil && test.shown() != 0 {
				t.Errorf("Describe shows %s", *id)
			}
		})
	}
}

func TestANameIsTakenBeforeItIsSeen(t *testing.T) {
	w := newWorld(t)
	late := w.late(time.Hour)
	for range 2 {
		_, err := late.RegisterImage(t.Context(), w.ami("twice"))
		if err != nil {
			refused(t, err, "InvalidAMIName.Duplicate")
			return
		}
	}
	t.Error("two images have one name")
}

func TestALateVersionIsNotTheLatest(t *testing.T) {
	w := newWorld(t)
	data := &types.RequestLaunchTemplateData{ImageId: aws.String(w.image("of the template"))}
	made, err := w.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("template"), LaunchTemplateData: data})
	if err != nil {
		t.Fatal(err)
	}
	id := made.LaunchTemplate.LaunchTemplateId
	if _, err := w.late(time.Hour).CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: id, LaunchTemplateData: data}); err != nil {
		t.Fatal(err)
	}
	_, err = w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: id, Versions: []string{"2"}})
	refused(t, err, "InvalidLaunchTemplateId.VersionNotFound")
	out, err := w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: id, Versions: []string{"$Latest"}})
	if err != nil {
		t.Fatal(err)
	}
	if latest := *out.LaunchTemplateVersions[0].VersionNumber; latest != 1 {
		t.Errorf("the latest version is %d, want 1, because 2 is not seen yet", latest)
	}
}

func TestWaitersSeeWhatWasCreatedInTheEnd(t *testing.T) {
	w := newWorld(t)
	late := w.late(20 * time.Millisecond)
	image, err := late.RegisterImage(t.Context(), w.ami("soon"))
	if err != nil {
		t.Fatal(err)
	}
	exists := ec2.NewImageExistsWaiter(w, func(o *ec2.ImageExistsWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := exists.Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*image.ImageId}}, time.Minute); err != nil {
		t.Error(err)
	}
	ran, err := late.RunInstances(t.Context(), single(*image.ImageId))
	if err != nil {
		t.Fatal(err)
	}
	w.untilExists(*ran.Instances[0].InstanceId)
}

func (w *world) untilExists(ids ...string) {
	w.Helper()
	waiter := ec2.NewInstanceExistsWaiter(w, func(o *ec2.InstanceExistsWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: ids}, time.Minute); err != nil {
		w.Error(err)
	}
}

func named(id, value string) *ec2.CreateTagsInput {
	return &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String("Name"), Value: &value}}}
}

func TestTagsAreSeenLate(t *testing.T) {
	w := newWorld(t)
	id := w.image("tagged")
	if _, err := w.late(time.Hour).CreateTags(t.Context(), named(id, "late")); err != nil {
		t.Fatal(err)
	}
	if got := tagOf(w.describeImage(id).Tags, "Name"); got != "<none>" {
		t.Errorf("the tag is seen at once: %s", got)
	}
}

func TestLateTagsDoNotOvertakeOthers(t *testing.T) {
	w := newWorld(t)
	id := w.image("tagged")
	if _, err := w.late(20*time.Millisecond).CreateTags(t.Context(), named(id, "first")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateTags(t.Context(), named(id, "second")); err != nil {
		t.Fatal(err)
	}
	seen := ""
	for end := time.Now().Add(time.Minute); seen != "second" && time.Now().Before(end); {
		seen = tagOf(w.describeImage(id).Tags, "Name")
	}
	if seen != "second" {
		t.Errorf("in the end the tag is %s, want second", seen)
	}
}
