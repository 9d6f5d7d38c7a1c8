package ec2

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

func TestRegisteredImageIsDescribedAsItWasRegistered(t *testing.T) {
	w := newWorld(t)
	in := w.ami("hello-1")
	in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeImage, "Name", "hello")}
	out, err := w.RegisterImage(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(w.Client, *out.ImageId)
	got := w.describeImage(*out.ImageId)

	ebs := got.BlockDeviceMappings[0].Ebs
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"name", *got.Name, "hello-1"},
		{"architecture", got.Architecture, types.ArchitectureValuesX8664},
		{"virtualization", got.VirtualizationType, types.VirtualizationTypeHvm},
		{"root device", *got.RootDeviceName, "/dev/xvda"},
		{"boot mode", got.BootMode, types.BootModeValuesUefiPreferred},
		{"IMDS", got.ImdsSupport, types.ImdsSupportValuesV20},
		{"ENA", *got.EnaSupport, true},
		{"SR-IOV", *got.SriovNetSupport, "simple"},
		{"owner", *got.OwnerId, api.Account},
		{"public", *got.Public, false},
		{"snapshot", *ebs.SnapshotId, *in.BlockDeviceMappings[0].Ebs.SnapshotId},
		{"size", *ebs.VolumeSize, int32(2)},
		{"type", ebs.VolumeType, types.VolumeTypeGp3},
		{"iops", *ebs.Iops, int32(3000)},
		{"throughput", *ebs.Throughput, int32(125)},
		{"encrypted", *ebs.Encrypted, false},
		{"tag", tagOf(got.Tags, "Name"), "hello"},
	} {
		if check.got != check.want {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

func TestRegisterImageDefaultsAreAWSs(t *testing.T) {
	w := newWorld(t)
	out, err := w.RegisterImage(t.Context(), &ec2.RegisterImageInput{
		Name: aws.String("old"), RootDeviceName: aws.String("/dev/sda1"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(w.snapshot(1))}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := w.describeImage(*out.ImageId)
	if got.Architecture != types.ArchitectureValuesI386 || got.VirtualizationType != types.VirtualizationTypeParavirtual {
		t.Errorf("registered as %s, %s; want i386, paravirtual", got.Architecture, got.VirtualizationType)
	}
	if !*got.BlockDeviceMappings[0].Ebs.DeleteOnTermination {
		t.Error("the root volume is not deleted on termination")
	}
}

func TestRegisterImageRefuses(t *testing.T) {
	w := newWorld(t)
	w.image("taken")
	pending := storage.NewSnapshot(time.Now(), 2)
	w.books.Do(func() { w.store.Add("eu-west-1", pending, nil) })
	failed := storage.NewSnapshot(time.Now(), 2)
	w.books.Do(func() {
		w.store.Add("eu-west-1", failed, nil)
		w.store.Fail(failed, "for a test")
	})
	encrypted := w.snapshot(2, func(s *storage.Snapshot) { s.Encrypted = true })
	shared := w.snapshot(2, func(s *storage.Snapshot) { s.OwnerId, s.SharedTo = "999999999999", []string{api.Account} })

	for name, test := range map[string]struct {
		change func(*ec2.RegisterImageInput)
		code   string
	}{
		"a name that is taken": {func(in *ec2.RegisterImageInput) { in.Name = aws.String("taken") }, "InvalidAMIName.Duplicate"},
		"a short name":         {func(in *ec2.RegisterImageInput) { in.Name = aws.String("ab") }, "InvalidAMIName.Malformed"},
		"a name with a colon":  {func(in *ec2.RegisterImageInput) { in.Name = aws.String("a:bc") }, "InvalidAMIName.Malformed"},
		"no such snapshot": {func(in *ec2.RegisterImageInput) {
			in.BlockDeviceMappings[0].Ebs.SnapshotId = aws.String("snap-00000000000000000")
		}, "InvalidSnapshot.NotFound"},
		"a pending snapshot": {func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.SnapshotId = &pending.Id }, "IncorrectState"},
		"Encrypted with snapshot": {func(in *ec2.RegisterImageInput) {
			in.BlockDeviceMappings[0].Ebs.SnapshotId, in.BlockDeviceMappings[0].Ebs.Encrypted = &encrypted, aws.Bool(true)
		}, "InvalidParameter"},
		"a key":              {func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.KmsKeyId = aws.String("alias/mine") }, "InvalidParameterDependency"},
		"another's snapshot": {func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.SnapshotId = &shared }, "InvalidParameterValue"},
		"a failed snapshot":  {func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.SnapshotId = &failed.Id }, "IncorrectState"},
		"a partition":        {func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].DeviceName = aws.String("/dev/xvda1") }, "InvalidBlockDeviceMapping"},
		"a root without a snapshot": {func(in *ec2.RegisterImageInput) {
			in.BlockDeviceMappings[0].Ebs.SnapshotId, in.BlockDeviceMappings[0].Ebs.VolumeSize = nil, aws.Int32(8)
		}, "InvalidBlockDeviceMapping"},
		"a cold root": {func(in *ec2.RegisterImageInput) {
			in.BlockDeviceMappings[0].Ebs.VolumeType, in.BlockDeviceMappings[0].Ebs.VolumeSize = types.VolumeTypeSc1, aws.Int32(125)
		}, "InvalidBlockDeviceMapping"},
		"a root that is unmapped": {func(in *ec2.RegisterImageInput) { in.RootDeviceName = aws.String("/dev/sda1") }, "InvalidBlockDeviceMapping"},
		"no root":                 {func(in *ec2.RegisterImageInput) { in.RootDeviceName = nil }, "MissingParameter"},
		"a volume too small":      {func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.VolumeSize = aws.Int32(1) }, "InvalidBlockDeviceMapping"},
		"throughput for gp2": {func(in *ec2.RegisterImageInput) {
			in.BlockDeviceMappings[0].Ebs.VolumeType, in.BlockDeviceMappings[0].Ebs.Throughput = types.VolumeTypeGp2, aws.Int32(200)
		}, "InvalidParameterCombination"},
		"ENA without HVM": {func(in *ec2.RegisterImageInput) {
			in.VirtualizationType, in.BootMode, in.SriovNetSupport = nil, "", nil
		}, "InvalidParameterCombination"},
		"TPM without UEFI": {func(in *ec2.RegisterImageInput) { in.TpmSupport = types.TpmSupportValuesV20 }, "InvalidParameterCombination"},
		"BIOS on arm64": {func(in *ec2.RegisterImageInput) {
			in.Architecture, in.BootMode = types.ArchitectureValuesArm64, types.BootModeValuesLegacyBios
		}, "InvalidParameterCombination"},
		"another architecture": {func(in *ec2.RegisterImageInput) { in.Architecture = "riscv" }, "InvalidParameterValue"},
		"tags for snapshots": {func(in *ec2.RegisterImageInput) {
			in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeSnapshot, "a", "b")}
		}, "InvalidParameterValue"},
		"billing products":     {func(in *ec2.RegisterImageInput) { in.BillingProducts = []string{"bp-1"} }, "AuthFailure"},
		"an unknown parameter": {func(in *ec2.RegisterImageInput) { in.KernelId = aws.String("aki-1") }, "UnknownParameter"},
		"a long description":   {func(in *ec2.RegisterImageInput) { in.Description = aws.String(strings.Repeat("é", 256)) }, "InvalidParameterValue"},
		"a dry run":            {func(in *ec2.RegisterImageInput) { in.DryRun = aws.Bool(true) }, "DryRunOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			in := w.ami("new")
			test.change(in)
			_, err := w.RegisterImage(t.Context(), in)
			refused(t, err, test.code)
		})
	}
	if images, err := w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}}); err != nil || len(images.Images) != 1 {
		t.Errorf("after refusals there are other images: %v, %v", images, err)
	}
}

func TestDescribeImagesFindsByOwnerNameAndPermission(t *testing.T) {
	w := newWorld(t)
	own, other := w.image("hello-1.0"), w.image("world-1.0")
	base := w.amazon("al2023-ami-2023.9-kernel-6.18-x86_64")
	foreign := w.amazon("private")
	w.books.Do(func() { w.service.in("eu-west-1").Images[foreign].Permissions = nil })
	if _, err := w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &other, LaunchPermission: &types.LaunchPermissionModifications{
		Add: []types.LaunchPermission{{UserId: aws.String("999999999999")}},
	}}); err != nil {
		t.Fatal(err)
	}

	filter := func(name string, values ...string) []types.Filter {
		return []types.Filter{{Name: &name, Values: values}}
	}
	for name, test := range map[string]struct {
		in   ec2.DescribeImagesInput
		want []string
	}{
		"everything visible":        {ec2.DescribeImagesInput{}, []string{own, other, base}},
		"own":                       {ec2.DescribeImagesInput{Owners: []string{"self"}}, []string{own, other}},
		"own by number":             {ec2.DescribeImagesInput{Owners: []string{api.Account}}, []string{own, other}},
		"Amazon's":                  {ec2.DescribeImagesInput{Owners: []string{"amazon"}}, []string{base}},
		"of the marketplace":        {ec2.DescribeImagesInput{Owners: []string{"aws-marketplace"}}, nil},
		"by wildcard":               {ec2.DescribeImagesInput{Filters: filter("name", "*-1.?")}, []string{own, other}},
		"by either name":            {ec2.DescribeImagesInput{Filters: filter("name", "hello-1.0", "al2023*")}, []string{own, base}},
		"by an escaped wildcard":    {ec2.DescribeImagesInput{Filters: filter("name", `hello-1\*`)}, nil},
		"by owner alias":            {ec2.DescribeImagesInput{Filters: filter("owner-alias", "amazon")}, []string{base}},
		"by boot mode and state":    {ec2.DescribeImagesInput{Filters: append(filter("boot-mode", "uefi-preferred"), filter("state", "available")...)}, []string{own, other, base}},
		"by size":                   {ec2.DescribeImagesInput{Filters: filter("block-device-mapping.volume-size", "2")}, []string{own, other, base}},
		"public":                    {ec2.DescribeImagesInput{ExecutableUsers: []string{"all"}}, []string{base}},
		"shared with an account":    {ec2.DescribeImagesInput{ExecutableUsers: []string{"999999999999"}}, []string{other}},
		"shared with the caller":    {ec2.DescribeImagesInput{ExecutableUsers: []string{"self"}}, nil},
		"by id and by another name": {ec2.DescribeImagesInput{ImageIds: []string{own}, Filters: filter("name", "world*")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.DescribeImages(t.Context(), &test.in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range out.Images {
				got = append(got, *i.ImageId)
			}
			if strings.Join(got, " ") != strings.Join(test.want, " ") {
				t.Errorf("found %v, want %v", got, test.want)
			}
		})
	}
	_, err := w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{foreign}})
	refused(t, err, "InvalidAMIID.NotFound")
	_, err = w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{"ami-x"}})
	refused(t, err, "InvalidAMIID.Malformed")
	_, err = w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"me"}})
	refused(t, err, "InvalidUserID.Malformed")
	_, err = w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Filters: filter("colour", "red")})
	refused(t, err, "InvalidParameterValue")
}

func TestDescribeImagesPagesThroughAll(t *testing.T) {
	w := newWorld(t)
	want := []string{w.image("one"), w.image("two"), w.image("three")}
	pages := ec2.NewDescribeImagesPaginator(w, &ec2.DescribeImagesInput{Owners: []string{"self"}, MaxResults: aws.Int32(1)})
	var got []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, *page.Images[0].ImageId)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("paged through %v, want %v", got, want)
	}
}

func TestDeregisteredImageIsNoLongerAvailable(t *testing.T) {
	w := newWorld(t)
	id := w.image("hello")
	snapshot := w.describeImage(id).BlockDeviceMappings[0].Ebs.SnapshotId
	_, err := w.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: snapshot})
	refused(t, err, "InvalidSnapshot.InUse")

	out, err := w.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &id, DeleteAssociatedSnapshots: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	if results := out.DeleteSnapshotResults; len(results) != 1 || results[0].ReturnCode != types.SnapshotReturnCodesSuccess {
		t.Errorf("snapshots deleted: %v", results)
	}
	_, err = w.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snapshot}})
	refused(t, err, "InvalidSnapshot.NotFound")
	_, err = w.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &id})
	refused(t, err, "InvalidAMIID.Unavailable")
	_, err = w.RunInstances(t.Context(), single(id))
	refused(t, err, "InvalidAMIID.Unavailable")
	w.image("hello") // the name is free again
}

func TestDeregisterImageKeepsSnapshotsThatOthersNeed(t *testing.T) {
	w := newWorld(t)
	first, second := w.ami("first"), w.ami("second")
	second.BlockDeviceMappings = first.BlockDeviceMappings
	one, err := w.RegisterImage(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RegisterImage(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	out, err := w.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: one.ImageId, DeleteAssociatedSnapshots: aws.Bool(true)})
	if err != nil || out.DeleteSnapshotResults[0].ReturnCode != types.SnapshotReturnCodesWarnSkipped {
		t.Errorf("got %v, %v; want the snapshot to be skipped", out, err)
	}
}

func TestOnlyTheOwnerChangesAnImage(t *testing.T) {
	w := newWorld(t)
	base := w.amazon("al2023")
	_, err := w.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &base})
	refused(t, err, "AuthFailure")
	_, err = w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &base, Description: &types.AttributeValue{Value: aws.String("mine")}})
	refused(t, err, "AuthFailure")
}

func TestCopiedImageIsOwnAndHasTheBlocks(t *testing.T) {
	w := newWorld(t)
	base := w.amazon("al2023")
	there := w.elsewhere("us-east-1")
	in := &ec2.CopyImageInput{
		Name: aws.String("copy"), SourceImageId: &base, SourceRegion: aws.String("eu-west-1"), ClientToken: aws.String("once"),
		TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeImage, "immutable:copy-of", base), specify(types.ResourceTypeSnapshot, "of", "copy")},
	}
	out, err := there.CopyImage(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(there, *out.ImageId)
	again, err := there.CopyImage(t.Context(), in)
	if err != nil || *again.ImageId != *out.ImageId {
		t.Errorf("the same token gave %v, %v; want %s", again, err, *out.ImageId)
	}
	in.Description = aws.String("changed")
	_, err = there.CopyImage(t.Context(), in)
	refused(t, err, "IdempotentParameterMismatch")

	images, err := there.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("tag:immutable:copy-of"), Values: []string{base}}}})
	if err != nil || len(images.Images) != 1 {
		t.Fatalf("found %v, %v", images, err)
	}
	got := images.Images[0]
	if *got.SourceImageId != base || *got.SourceImageRegion != "eu-west-1" || got.BootMode != types.BootModeValuesUefiPreferred || *got.Public {
		t.Errorf("the copy is %+v", got)
	}
	snapshots, err := there.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil || len(snapshots.Snapshots) != 1 || tagOf(snapshots.Snapshots[0].Tags, "of") != "copy" {
		t.Fatalf("snapshots %v, %v", snapshots, err)
	}
	w.books.Read(func() {
		original := w.store.In("eu-west-1").Snapshots[*w.describedSnapshot(base)]
		copied := w.store.In("us-east-1").Snapshots[*snapshots.Snapshots[0].SnapshotId]
		a, _ := original.At(3)
		b, ok := copied.At(3)
		if !ok || a != b || len(copied.Indexes()) != len(original.Indexes()) {
			t.Error("the copy has other blocks than the original")
		}
	})
}

// describedSnapshot is for use with the books held.
func (w *world) describedSnapshot(image string) *string {
	return &w.service.in("eu-west-1").Images[image].BlockDevices[0].Ebs.SnapshotId
}

func TestCopyImageNeedsTheStorage(t *testing.T) {
	w := newWorld(t)
	base := w.amazon("al2023")
	w.books.Do(func() { w.store.In("eu-west-1").Snapshots[*w.describedSnapshot(base)].Public = false })
	_, err := w.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("copy"), SourceImageId: &base, SourceRegion: aws.String("eu-west-1")})
	refused(t, err, "InvalidRequest")
	w.run(single(base)) // but launching it works
}

func TestCopyImageEncrypts(t *testing.T) {
	w := newWorld(t)
	id := w.image("plain")
	out, err := w.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: aws.String("secret"), SourceImageId: &id, SourceRegion: aws.String("eu-west-1"), Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/mine"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(w.Client, *out.ImageId)
	if !*w.describeImage(*out.ImageId).BlockDeviceMappings[0].Ebs.Encrypted {
		t.Error("the copy is not encrypted")
	}
	_, err = w.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: aws.String("open"), SourceImageId: out.ImageId, SourceRegion: aws.String("eu-west-1"), Encrypted: aws.Bool(false),
	})
	refused(t, err, "InvalidRequest")
	_, err = w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: out.ImageId, LaunchPermission: &types.LaunchPermissionModifications{
		Add: []types.LaunchPermission{{Group: types.PermissionGroupAll}},
	}})
	refused(t, err, "InvalidParameterValue")
}

func TestCopyImageTags(t *testing.T) {
	w := newWorld(t)
	in := w.ami("tagged")
	in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeImage, "Source/CommitId", "abc")}
	registered, err := w.RegisterImage(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, copyTags := range []bool{true, false} {
		out, err := w.CopyImage(t.Context(), &ec2.CopyImageInput{
			Name: aws.String("copy-" + map[bool]string{true: "with", false: "without"}[copyTags]), SourceImageId: registered.ImageId, SourceRegion: aws.String("eu-west-1"), CopyImageTags: &copyTags,
		})
		if err != nil {
			t.Fatal(err)
		}
		if has := tagOf(w.describeImage(*out.ImageId).Tags, "Source/CommitId") == "abc"; has != copyTags {
			t.Errorf("CopyImageTags %v: the copy has the tag: %v", copyTags, has)
		}
	}
}

func TestLaunchPermissions(t *testing.T) {
	w := newWorld(t)
	id := w.image("shared")
	change := func(in ec2.ModifyImageAttributeInput) error {
		in.ImageId = &id
		_, err := w.ModifyImageAttribute(t.Context(), &in)
		return err
	}
	permissions := func() []types.LaunchPermission {
		out, err := w.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
		if err != nil {
			t.Fatal(err)
		}
		return out.LaunchPermissions
	}
	if err := change(ec2.ModifyImageAttributeInput{Attribute: aws.String("launchPermission"), OperationType: types.OperationTypeAdd, UserIds: []string{"111111111111", "222222222222"}}); err != nil {
		t.Fatal(err)
	}
	if err := change(ec2.ModifyImageAttributeInput{LaunchPermission: &types.LaunchPermissionModifications{
		Remove: []types.LaunchPermission{{UserId: aws.String("111111111111")}},
		Add:    []types.LaunchPermission{{OrganizationArn: aws.String("arn:aws:organizations::123456789012:organization/o-abc")}},
	}}); err != nil {
		t.Fatal(err)
	}
	got := permissions()
	if len(got) != 2 || *got[0].UserId != "222222222222" || got[1].OrganizationArn == nil {
		t.Errorf("permissions are %v", got)
	}
	refused(t, change(ec2.ModifyImageAttributeInput{LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String("somebody")}}}}), "InvalidAMIAttributeItemValue")
	refused(t, change(ec2.ModifyImageAttributeInput{}), "MissingParameter")
	if _, err := w.ResetImageAttribute(t.Context(), &ec2.ResetImageAttributeInput{ImageId: &id, Attribute: types.ResetImageAttributeNameLaunchPermission}); err != nil || len(permissions()) != 0 {
		t.Errorf("after the reset: %v, %v", permissions(), err)
	}
}

func TestDeprecatedImageIsHiddenFromOthersOnly(t *testing.T) {
	w := newWorld(t)
	own, base := w.image("own"), w.amazon("al2023")
	at := time.Now().Add(time.Hour).Round(time.Minute).UTC()
	if _, err := w.EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{ImageId: &own, DeprecateAt: &at}); err != nil {
		t.Fatal(err)
	}
	if got := *w.describeImage(own).DeprecationTime; got != at.Format("2006-01-02T15:04:05.000Z") {
		t.Errorf("deprecated at %s, want %s", got, at)
	}
	_, err := w.EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{ImageId: &own, DeprecateAt: aws.Time(time.Now().Add(-time.Hour))})
	refused(t, err, "InvalidParameterValue")
	w.books.Do(func() {
		images := w.service.in("eu-west-1").Images
		images[own].Deprecated, images[base].Deprecated = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	})
	for _, test := range []struct {
		include bool
		want    int
	}{{false, 1}, {true, 2}} {
		out, err := w.DescribeImages(t.Context(), &ec2.DescribeImagesInput{IncludeDeprecated: &test.include})
		if err != nil || len(out.Images) != test.want {
			t.Errorf("IncludeDeprecated %v: %d images, %v; want %d", test.include, len(out.Images), err, test.want)
		}
	}
}

func TestDeprecationHasALimit(t *testing.T) {
	w := newWorld(t)
	own, public := w.image("own"), w.image("public")
	if _, err := w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &public, LaunchPermission: &types.LaunchPermissionModifications{
		Add: []types.LaunchPermission{{Group: types.PermissionGroupAll}},
	}}); err != nil {
		t.Fatal(err)
	}
	year := func(n int) *time.Time { return aws.Time(time.Now().AddDate(n, 0, 0).Add(-time.Hour)) }
	for name, test := range map[string]struct {
		image string
		at    *time.Time
		code  string
	}{
		"in ten years":         {own, year(10), ""},
		"in more":              {own, year(11), "InvalidParameterValue"},
		"a public one in two":  {public, year(2), ""},
		"a public one in more": {public, year(3), "InvalidParameterValue"},
		"in the past":          {own, year(0), "InvalidParameterValue"},
		"an image that is not": {"ami-00000000000000000", year(1), "InvalidAMIID.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.EnableImageDeprecation(t.Context(), &ec2.EnableImageDeprecationInput{ImageId: &test.image, DeprecateAt: test.at})
			if test.code != "" {
				refused(t, err, test.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEncryptedImageIsSharedUnlessItsKeyForbids(t *testing.T) {
	w := newWorld(t)
	register := func(name, key string) string {
		in := w.ami(name)
		in.BlockDeviceMappings[0].Ebs.SnapshotId = aws.String(w.snapshot(2, func(s *storage.Snapshot) { s.Encrypted, s.KmsKeyId = true, key }))
		out, err := w.RegisterImage(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return *out.ImageId
	}
	var defaultKey string
	w.books.Read(func() { defaultKey = w.service.in("eu-west-1").defaultKey() })
	share := func(image string, p types.LaunchPermission) error {
		_, err := w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &image, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{p}}})
		return err
	}
	managed, own := register("managed", defaultKey), register("own", ownKey)
	account := types.LaunchPermission{UserId: aws.String("999999999999")}
	refused(t, share(managed, account), "InvalidParameter")
	refused(t, share(own, types.LaunchPermission{Group: types.PermissionGroupAll}), "InvalidParameterValue")
	if err := share(own, account); err != nil {
		t.Error(err)
	}
}

func TestOnlyAnAvailableImageIsModified(t *testing.T) {
	w := newWorld(t)
	id := w.image("hello")
	w.books.Do(func() { w.service.in("eu-west-1").Images[id].State = imagePending })
	_, err := w.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{ImageId: &id, Description: &types.AttributeValue{Value: aws.String("new")}})
	refused(t, err, "InvalidAMIID.Unavailable")
}

func TestRepeatedCopyImageIsAnsweredWithoutItsSource(t *testing.T) {
	w := newWorld(t)
	id := w.image("hello")
	in := &ec2.CopyImageInput{Name: aws.String("copy"), SourceImageId: &id, SourceRegion: aws.String("eu-west-1"), ClientToken: aws.String("once")}
	first, err := w.CopyImage(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &id}); err != nil {
		t.Fatal(err)
	}
	if again, err := w.CopyImage(t.Context(), in); err != nil || *again.ImageId != *first.ImageId {
		t.Errorf("the same token gave %v, %v; want %s", again, err, *first.ImageId)
	}
	in.ClientToken = aws.String("twice")
	_, err = w.CopyImage(t.Context(), in)
	refused(t, err, "InvalidAMIID.Unavailable")
}
