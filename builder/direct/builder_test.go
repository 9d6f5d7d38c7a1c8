package direct

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/snapshot"
)

// amiOf is the AMI of an artifact.
func amiOf(t *testing.T, artifact packersdk.Artifact) string {
	t.Helper()
	amis, err := image.Parse(artifact)
	if err != nil {
		t.Fatal(err)
	}
	return amis["eu-west-1"]
}

func rootOf(t *testing.T, i types.Image) types.EbsBlockDevice {
	t.Helper()
	root, err := image.Root(i)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestABakedAMIHasTheDisksBlocksAndTheBasesAttributes(t *testing.T) {
	l := openLocal(t)
	kept := l.keepDisk()
	artifact, err := l.build(t.Context(), map[string]any{
		"ami_name":        "hello-1",
		"ami_description": "hello on {{ .SourceAMIOwnerName }}",
		"tags":            map[string]string{"Name": "hello", "Base": "{{ .SourceAMI }}"},
		"snapshot_tags":   map[string]string{"Name": "hello root"},
	}, write("/etc/hello", "hello"))
	if err != nil {
		t.Fatal(err)
	}
	l.assertNothingLeft()
	made := l.image(amiOf(t, artifact))
	base := l.image(image.Tags(made)["Base"])

	t.Run("its snapshot reads back as the baked disk", func(t *testing.T) {
		cache := snapshot.Cache{Dir: t.TempDir()}
		path, _, err := cache.Snapshot(t.Context(), newUi(t), snapshot.NewClient(l.aws), "eu-west-1", *rootOf(t, made).SnapshotId, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if n := differing(t, open(t, path), kept); n > 0 {
			t.Errorf("%d blocks differ", n)
		}
	})
	t.Run("exactly the blocks that differ from the base were uploaded", func(t *testing.T) {
		if differ, put := differing(t, open(t, l.base), kept), l.called("PutSnapshotBlock"); put != differ || put == 0 {
			t.Errorf("%d blocks differ, %d were uploaded", differ, put)
		}
	})
	t.Run("it is like its base", func(t *testing.T) {
		own := []string{
			"ImageId", "Name", "Description", "OwnerId", "ImageOwnerAlias", "ImageLocation", "Public", "CreationDate", "Tags",
			"SourceImageId", "SourceImageRegion", "ImdsSupport", "DeprecationTime", "BlockDeviceMappings",
		}
		ignore := cmp.Options{cmpopts.IgnoreFields(types.Image{}, own...), cmpopts.IgnoreUnexported(types.Image{})}
		if diff := cmp.Diff(base, made, ignore); diff != "" {
			t.Errorf("base (-), made (+):\n%s", diff)
		}
		was, is := rootOf(t, base), rootOf(t, made)
		was.SnapshotId, is.SnapshotId = nil, nil
		if diff := cmp.Diff(was, is, cmpopts.IgnoreUnexported(was)); diff != "" {
			t.Errorf("root of the base (-) and of the made (+):\n%s", diff)
		}
	})
	t.Run("its instances answer to IMDSv2 only", func(t *testing.T) {
		if made.ImdsSupport != types.ImdsSupportValuesV20 {
			t.Errorf("imds support is %q", made.ImdsSupport)
		}
	})
	t.Run("its templates are rendered", func(t *testing.T) {
		if got := aws.ToString(made.Description); got != "hello on amazon" {
			t.Errorf("description is %q", got)
		}
	})
	t.Run("only what is unfinished expires", func(t *testing.T) {
		out, err := l.ec2.DescribeTags(t.Context(), &ec2.DescribeTagsInput{
			Filters: []types.Filter{{Name: aws.String("key"), Values: []string{cloud.TagExpires}}},
		})
		if err != nil || len(out.Tags) > 0 {
			t.Errorf("%v, %v", out.Tags, err)
		}
	})
	t.Run("the snapshot has the AMI's tags and its own", func(t *testing.T) {
		s, err := snapshot.Describe(t.Context(), l.ec2, *rootOf(t, made).SnapshotId)
		if err != nil {
			t.Fatal(err)
		}
		tags := image.Tags(types.Image{Tags: s.Tags})
		if tags["Name"] != "hello root" || tags["Base"] != *base.ImageId {
			t.Errorf("tags are %v", tags)
		}
	})
	t.Run("what post-processors are told", func(t *testing.T) {
		generated, _ := artifact.State("generated_data").(map[string]any)
		if generated["SourceAMI"] != *base.ImageId || generated["BuildRegion"] != "eu-west-1" {
			t.Errorf("generated data is %v", generated)
		}
		stats, _ := artifact.State(StateStats).(map[string]any)
		if stats["blocks_changed"] != stats["blocks_uploaded"] || stats["blocks_uploaded"] != l.called("PutSnapshotBlock") {
			t.Errorf("stats are %v", stats)
		}
	})
	t.Run("it can be destroyed", func(t *testing.T) {
		if err := artifact.Destroy(); err != nil {
			t.Fatal(err)
		}
		mine := l.mine()
		if slices.Contains(mine, *made.ImageId) || slices.Contains(mine, *rootOf(t, made).SnapshotId) {
			t.Errorf("the AMI or its snapshot is among %v", mine)
		}
	})
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

var nothing = provision(func(context.Context, packersdk.Communicator) error { return nil })

func TestABaseIsCopiedAndDownloadedOnce(t *testing.T) {
	l := openLocal(t)
	for _, name := range []string{"first", "second"} {
		if _, err := l.build(t.Context(), map[string]any{"ami_name": name}, nothing); err != nil {
			t.Fatal(err)
		}
	}
	if copies, lists := l.called("CopyImage"), l.called("ListSnapshotBlocks"); copies != 1 || lists != 1 {
		t.Errorf("two builds copied %d times and downloaded %d times", copies, lists)
	}
}

func TestAnInterruptLeavesNothing(t *testing.T) {
	l := openLocal(t)
	// The copy of the base is kept, as it is for every later build.
	if _, err := l.build(t.Context(), map[string]any{"ami_name": "before"}, nothing); err != nil {
		t.Fatal(err)
	}
	before := l.mine()
	for _, operation := range []string{
		"GetCallerIdentity", "GetParameter", "DescribeSnapshots",
		"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "RegisterImage", "DeleteTags",
	} {
		t.Run("at "+operation, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			l.watch(func(o string) {
				if o == operation {
					interrupt()
				}
			})
			defer l.watch(nil)
			_, err := l.build(ctx, map[string]any{"ami_name": "interrupted"}, write("/etc/hello", operation))
			if err == nil {
				t.Error("the build went on")
			}
			if after := l.mine(); !slices.Equal(before, after) {
				t.Errorf("images and snapshots were %v and are %v", before, after)
			}
			l.assertNothingLeft()
		})
	}
}

func TestAnInterruptWhileTheBaseIsCopiedLeavesNothing(t *testing.T) {
	for _, operation := range []string{"CopyImage", "GetSnapshotBlock"} {
		t.Run("at "+operation, func(t *testing.T) {
			l := openLocal(t)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			l.watch(func(o string) {
				if o == operation {
					interrupt()
				}
			})
			if _, err := l.build(ctx, map[string]any{"ami_name": "interrupted"}, nothing); err == nil {
				t.Error("the build went on")
			}
			l.watch(nil)
			l.assertNothingLeft()
			for _, id := range l.mine() {
				if strings.HasPrefix(id, "ami-") && l.image(id).State != types.ImageStateAvailable {
					t.Errorf("%s is unfinished", id)
				}
			}
		})
	}
}

func TestAFailingProvisionerLeavesNothing(t *testing.T) {
	l := openLocal(t)
	failure := errors.New("no such package")
	_, err := l.build(t.Context(), map[string]any{"ami_name": "hello"}, func(context.Context, packersdk.Communicator) error { return failure })
	if !errors.Is(err, failure) {
		t.Errorf("the build gave %v", err)
	}
	if n := l.called("StartSnapshot"); n > 0 {
		t.Errorf("%d snapshots were started", n)
	}
	l.assertNothingLeft()
}

func TestANameThatIsTaken(t *testing.T) {
	l := openLocal(t)
	artifact, err := l.build(t.Context(), map[string]any{"ami_name": "hello"}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	old := l.image(amiOf(t, artifact))

	t.Run("is an error before anything is created", func(t *testing.T) {
		starts := l.called("StartSnapshot")
		_, err := l.build(t.Context(), map[string]any{"ami_name": "hello"}, nothing)
		if err == nil || !strings.Contains(err.Error(), "ami_name \"hello\" is taken by "+*old.ImageId) {
			t.Errorf("the build gave %v", err)
		}
		if l.called("StartSnapshot") != starts {
			t.Error("a snapshot was started")
		}
	})
	t.Run("stays with the old AMI if the new one fails", func(t *testing.T) {
		options := map[string]any{"ami_name": "hello", "force_deregister": true, "force_delete_snapshot": true}
		failing := func(context.Context, packersdk.Communicator) error { return errors.New("no such package") }
		if _, err := l.build(t.Context(), options, failing); err == nil {
			t.Error("the build went on")
		}
		if mine := l.mine(); !slices.Contains(mine, *old.ImageId) {
			t.Errorf("the old AMI is not among %v", mine)
		}
	})
	t.Run("goes to the new AMI by force_deregister", func(t *testing.T) {
		options := map[string]any{"ami_name": "hello", "force_deregister": true, "force_delete_snapshot": true}
		artifact, err := l.build(t.Context(), options, write("/etc/hello", "new"))
		if err != nil {
			t.Fatal(err)
		}
		mine := l.mine()
		if slices.Contains(mine, *old.ImageId) || slices.Contains(mine, *rootOf(t, old).SnapshotId) {
			t.Errorf("the old AMI or its snapshot is among %v", mine)
		}
		if name := aws.ToString(l.image(amiOf(t, artifact)).Name); name != "hello" {
			t.Errorf("the new AMI has the name %q", name)
		}
	})
}

func TestEncryptBoot(t *testing.T) {
	l := openLocal(t)
	kept := l.keepDisk()
	artifact, err := l.build(t.Context(), map[string]any{"ami_name": "encrypted", "encrypt_boot": true}, write("/etc/hello", "encrypted"))
	if err != nil {
		t.Fatal(err)
	}
	root := rootOf(t, l.image(amiOf(t, artifact)))
	if !aws.ToBool(root.Encrypted) {
		t.Error("the root is not encrypted")
	}
	if differ, put := differing(t, open(t, l.base), kept), l.called("PutSnapshotBlock"); put != differ {
		t.Errorf("%d blocks differ, %d were uploaded", differ, put)
	}
}

func TestAnAccountThatEncryptsByDefault(t *testing.T) {
	l := openLocal(t)
	if _, err := l.ec2.EnableEbsEncryptionByDefault(t.Context(), &ec2.EnableEbsEncryptionByDefaultInput{}); err != nil {
		t.Fatal(err)
	}
	t.Run("gets an encrypted AMI", func(t *testing.T) {
		artifact, err := l.build(t.Context(), map[string]any{"ami_name": "encrypted"}, write("/etc/hello", "encrypted"))
		if err != nil {
			t.Fatal(err)
		}
		if !aws.ToBool(rootOf(t, l.image(amiOf(t, artifact))).Encrypted) {
			t.Error("the root is not encrypted")
		}
	})
	t.Run("refuses an unencrypted one", func(t *testing.T) {
		_, err := l.build(t.Context(), map[string]any{"ami_name": "plain", "encrypt_boot": false}, nothing)
		if !errors.Is(err, image.ErrEncryptsByDefault) {
			t.Errorf("the build gave %v", err)
		}
	})
}

func TestSharing(t *testing.T) {
	l := openLocal(t)
	const other = "210987654321"
	at := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Minute)
	artifact, err := l.build(t.Context(), map[string]any{
		"ami_name":       "shared",
		"ami_users":      []string{other},
		"snapshot_users": []string{other},
		"deprecate_at":   at.Format(time.RFC3339),
	}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	made := l.image(amiOf(t, artifact))

	launch, err := l.ec2.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: made.ImageId, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil {
		t.Fatal(err)
	}
	if p := launch.LaunchPermissions; len(p) != 1 || aws.ToString(p[0].UserId) != other {
		t.Errorf("launch permissions are %v", p)
	}
	volume, err := l.ec2.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{
		SnapshotId: rootOf(t, made).SnapshotId, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := volume.CreateVolumePermissions; len(p) != 1 || aws.ToString(p[0].UserId) != other {
		t.Errorf("volume permissions are %v", p)
	}
	if got, err := time.Parse(time.RFC3339, aws.ToString(made.DeprecationTime)); err != nil || !got.Equal(at) {
		t.Errorf("it is deprecated at %v (%v), want %v", got, err, at)
	}
}

func TestALocalBase(t *testing.T) {
	l := openLocal(t)
	kept := l.keepDisk()
	artifact, err := l.build(t.Context(), map[string]any{"ami_name": "local", "source_image": l.base}, write("/etc/hello", "local"))
	if err != nil {
		t.Fatal(err)
	}
	made := l.image(amiOf(t, artifact))
	t.Run("its data is uploaded", func(t *testing.T) {
		empty, err := os.Create(t.TempDir() + "/empty")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = empty.Close() }()
		info, err := kept.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := empty.Truncate(info.Size()); err != nil {
			t.Fatal(err)
		}
		if data, put := differing(t, empty, kept), l.called("PutSnapshotBlock"); put != data {
			t.Errorf("%d blocks have data, %d were uploaded", data, put)
		}
	})
	t.Run("the AMI boots as Amazon Linux does", func(t *testing.T) {
		if made.BootMode != types.BootModeValuesUefiPreferred || !aws.ToBool(made.EnaSupport) || aws.ToString(made.SriovNetSupport) != "simple" ||
			made.VirtualizationType != types.VirtualizationTypeHvm || made.Architecture != types.ArchitectureValuesX8664 {
			t.Errorf("%+v", made)
		}
	})
}

func TestAVolumeSizeGrowsTheDisk(t *testing.T) {
	l := openLocal(t)
	artifact, err := l.build(t.Context(), map[string]any{"ami_name": "large", "volume_size": 12, "volume_type": "io2", "iops": 4000}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	root := rootOf(t, l.image(amiOf(t, artifact)))
	if aws.ToInt32(root.VolumeSize) != 12 || root.VolumeType != types.VolumeTypeIo2 || aws.ToInt32(root.Iops) != 4000 {
		t.Errorf("the root volume is %d GiB of %s with %d IOPS", aws.ToInt32(root.VolumeSize), root.VolumeType, aws.ToInt32(root.Iops))
	}
}

func TestABaseThatCannotBe(t *testing.T) {
	l := openLocal(t)
	public, err := l.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one of two", "two of two"} {
		copied := &ec2.CopyImageInput{Name: aws.String(name), SourceImageId: public.Images[0].ImageId, SourceRegion: aws.String("eu-west-1")}
		if _, err := l.ec2.CopyImage(t.Context(), copied); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		options map[string]any
		wants   string
	}{
		"an AMI that does not exist": {
			map[string]any{"source_ami": "ami-00000000000000000"}, "source_ami: AMI ami-00000000000000000 does not exist",
		},
		"a filter that matches nothing": {
			map[string]any{"source_ami_filter": map[string]any{"owners": []string{"amazon"}, "filters": map[string]string{"name": "nope"}}},
			"source_ami_filter: no available AMI",
		},
		"a filter that matches several": {
			map[string]any{"source_ami_filter": map[string]any{"owners": []string{"self"}, "filters": map[string]string{"name": "* of two"}}},
			"source_ami_filter: 2 AMIs match",
		},
		"an SSM parameter that does not exist": {
			map[string]any{"source_ssm_parameter": "/nope"}, "source_ssm_parameter \"/nope\" does not exist",
		},
		"one of another architecture": {
			map[string]any{"architecture": "arm64", "source_ssm_parameter": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"},
			"architecture is \"arm64\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.options["ami_name"] = "hello"
			_, err := l.build(t.Context(), c.options, nothing)
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("the build gave %v, want %q", err, c.wants)
			}
		})
	}
}
