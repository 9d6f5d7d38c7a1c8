package ec2

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

func TestDescribeSnapshotsByOwnerAndShare(t *testing.T) {
	w := newWorld(t)
	own := w.snapshot(1)
	public := w.snapshot(2, func(s *storage.Snapshot) { s.OwnerId, s.Public = api.Amazon, true })
	shared := w.snapshot(3, func(s *storage.Snapshot) { s.OwnerId, s.SharedTo = "999999999999", []string{api.Account} })
	hidden := w.snapshot(4, func(s *storage.Snapshot) { s.OwnerId = "999999999999" })
	for name, test := range map[string]struct {
		in   ec2.DescribeSnapshotsInput
		want []string
	}{
		"visible":    {ec2.DescribeSnapshotsInput{}, []string{own, public, shared}},
		"own":        {ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}}, []string{own}},
		"Amazon's":   {ec2.DescribeSnapshotsInput{OwnerIds: []string{"amazon"}}, []string{public}},
		"restorable": {ec2.DescribeSnapshotsInput{RestorableByUserIds: []string{"self"}}, []string{own, shared}},
		"by size":    {ec2.DescribeSnapshotsInput{Filters: []types.Filter{{Name: aws.String("volume-size"), Values: []string{"2", "3"}}}}, []string{public, shared}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.DescribeSnapshots(t.Context(), &test.in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range out.Snapshots {
				got = append(got, *s.SnapshotId)
			}
			slices.Sort(got)
			slices.Sort(test.want)
			if !slices.Equal(got, test.want) {
				t.Errorf("described %v, want %v", got, test.want)
			}
		})
	}
	_, err := w.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{hidden}})
	refused(t, err, "InvalidSnapshot.NotFound")
	_, err = w.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{own}, MaxResults: aws.Int32(5)})
	refused(t, err, "InvalidParameterCombination")
	_, err = w.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &public})
	refused(t, err, "UnauthorizedOperation")
}

func TestDescribeSnapshotsPagesThroughAll(t *testing.T) {
	w := newWorld(t)
	var want []string
	for range 12 {
		want = append(want, w.snapshot(1))
	}
	pages := ec2.NewDescribeSnapshotsPaginator(w, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, MaxResults: aws.Int32(5)})
	var got []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Snapshots {
			got = append(got, *s.SnapshotId)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("paged through %d snapshots, want %d", len(got), len(want))
	}
}

func TestSnapshotIsSharedUnlessItsKeyForbids(t *testing.T) {
	w := newWorld(t)
	share := func(id string, p types.CreateVolumePermission) error {
		_, err := w.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{
			SnapshotId: &id, CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{p}},
		})
		return err
	}
	account, everybody := types.CreateVolumePermission{UserId: aws.String("111111111111")}, types.CreateVolumePermission{Group: types.PermissionGroupAll}
	plain := w.snapshot(1)
	if err := share(plain, account); err != nil {
		t.Fatal(err)
	}
	out, err := w.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{SnapshotId: &plain, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	if err != nil || len(out.CreateVolumePermissions) != 1 || *out.CreateVolumePermissions[0].UserId != "111111111111" {
		t.Errorf("permissions %v, %v", out, err)
	}
	defaultKey := w.snapshot(1, func(s *storage.Snapshot) { s.Encrypted, s.KmsKeyId = true, w.service.in("eu-west-1").defaultKey() })
	ownKey := w.snapshot(1, func(s *storage.Snapshot) {
		s.Encrypted, s.KmsKeyId = true, "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	})
	refused(t, share(defaultKey, account), "OperationNotPermitted")
	refused(t, share(ownKey, everybody), "OperationNotPermitted")
	if err := share(ownKey, account); err != nil {
		t.Error(err)
	}
}

func TestCopySnapshot(t *testing.T) {
	w := newWorld(t)
	id := w.snapshot(2)
	there := w.elsewhere("eu-central-1")
	out, err := there.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{
		SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &id, Encrypted: aws.Bool(true),
		TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeSnapshot, "a", "b")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := there.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*out.SnapshotId}})
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Snapshots[0]; s.State != types.SnapshotStateCompleted || !*s.Encrypted || s.KmsKeyId == nil || tagOf(s.Tags, "a") != "b" || *s.VolumeSize != 2 {
		t.Errorf("the copy is %+v", s)
	}
	_, err = there.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("nowhere-1"), SourceSnapshotId: &id})
	refused(t, err, "InvalidRegion")
}

func TestEncryptionByDefault(t *testing.T) {
	w := newWorld(t)
	if _, err := w.EnableEbsEncryptionByDefault(t.Context(), &ec2.EnableEbsEncryptionByDefaultInput{}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.GetEbsEncryptionByDefault(t.Context(), &ec2.GetEbsEncryptionByDefaultInput{}); err != nil || !*got.EbsEncryptionByDefault {
		t.Errorf("got %v, %v", got, err)
	}
	v, err := w.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1)})
	if err != nil || !*v.Encrypted {
		t.Errorf("a volume is %v, %v; want it encrypted", v, err)
	}
	if got, err := w.elsewhere("us-east-1").GetEbsEncryptionByDefault(t.Context(), &ec2.GetEbsEncryptionByDefaultInput{}); err != nil || *got.EbsEncryptionByDefault {
		t.Errorf("another region has it too: %v, %v", got, err)
	}
}

func TestVolumeIsCreatedAttachedAndDeleted(t *testing.T) {
	w := newWorld(t)
	instance := w.run(single(w.image("hello")))[0]
	w.untilRunning(instance)
	zone := w.describeInstance(instance).Placement.AvailabilityZone
	v, err := w.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: aws.String(w.snapshot(2)), VolumeType: types.VolumeTypeGp3})
	if err != nil {
		t.Fatal(err)
	}
	wait := func() {
		t.Helper()
		waiter := ec2.NewVolumeAvailableWaiter(w, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
		if err := waiter.Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}}, 1e10); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	if *v.Size != 2 || *v.Iops != 3000 {
		t.Errorf("created %+v", v)
	}
	_, err = w.AttachVolume(t.Context(), &ec2.AttachVolumeInput{VolumeId: v.VolumeId, InstanceId: &instance, Device: aws.String("/dev/xvda")})
	refused(t, err, "InvalidParameterValue")
	if _, err := w.AttachVolume(t.Context(), &ec2.AttachVolumeInput{VolumeId: v.VolumeId, InstanceId: &instance, Device: aws.String("/dev/sdf")}); err != nil {
		t.Fatal(err)
	}
	if got := w.describeInstance(instance).BlockDeviceMappings; len(got) != 2 {
		t.Errorf("attached are %v", got)
	}
	snapshots, err := w.CreateSnapshots(t.Context(), &ec2.CreateSnapshotsInput{InstanceSpecification: &types.InstanceSpecification{InstanceId: &instance}})
	if err != nil || len(snapshots.Snapshots) != 2 {
		t.Fatalf("snapshots %v, %v", snapshots, err)
	}
	for _, s := range snapshots.Snapshots {
		w.untilSnapshot(*s.SnapshotId)
	}
	if _, err := w.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: v.VolumeId}); err != nil {
		t.Fatal(err)
	}
	wait()
	if _, err := w.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: v.VolumeId}); err != nil {
		t.Fatal(err)
	}
	_, err = w.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}})
	refused(t, err, "InvalidVolume.NotFound")
	root := *w.describeInstance(instance).BlockDeviceMappings[0].Ebs.VolumeId
	_, err = w.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: &root})
	refused(t, err, "OperationNotPermitted")
}

func TestCreateVolumeRefuses(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		in   ec2.CreateVolumeInput
		code string
	}{
		"no such zone":      {ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1z"), Size: aws.Int32(1)}, "InvalidZone.NotFound"},
		"no size":           {ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a")}, "MissingParameter"},
		"io1 without iops":  {ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(4), VolumeType: types.VolumeTypeIo1}, "MissingParameter"},
		"a key unencrypted": {ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(4), KmsKeyId: aws.String("k")}, "InvalidParameterDependency"},
		"too small":         {ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1), SnapshotId: aws.String(w.snapshot(2))}, "InvalidBlockDeviceMapping"},
		"multi-attach":      {ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(4), MultiAttachEnabled: aws.Bool(true)}, "UnknownParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.CreateVolume(t.Context(), &test.in)
			refused(t, err, test.code)
		})
	}
}

func (w *world) describeSnapshot(id string) types.Snapshot {
	w.Helper()
	out, err := w.DescribeSnapshots(w.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		w.Fatal(err)
	}
	return out.Snapshots[0]
}

func TestSnapshotPermissionsAreAddedOrRemoved(t *testing.T) {
	w := newWorld(t)
	id := w.snapshot(1)
	someone := []types.CreateVolumePermission{{UserId: aws.String("111111111111")}}
	_, err := w.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &id, CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: someone, Remove: someone}})
	refused(t, err, "InvalidParameterCombination")
	var many []string
	for n := range 501 {
		many = append(many, fmt.Sprintf("%012d", n))
	}
	_, err = w.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &id, OperationType: types.OperationTypeAdd, UserIds: many})
	refused(t, err, "InvalidParameterValue")
	if _, err := w.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{SnapshotId: &id, OperationType: types.OperationTypeAdd, UserIds: many[:500]}); err != nil {
		t.Error(err)
	}
}

func TestCreateSnapshotsOfAnInstance(t *testing.T) {
	w := newWorld(t)
	id := w.withData()
	root, data := "", ""
	for _, d := range w.describeInstance(id).BlockDeviceMappings {
		if *d.DeviceName == "/dev/xvda" {
			root = *d.Ebs.VolumeId
		} else {
			data = *d.Ebs.VolumeId
		}
	}
	if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{root}, Tags: tagList("of", "volume")}); err != nil {
		t.Fatal(err)
	}
	loose, err := w.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spec types.InstanceSpecification
		want string // the volume
		code string
	}{
		"without data":         {types.InstanceSpecification{ExcludeDataVolumeIds: []string{data}}, root, ""},
		"without root":         {types.InstanceSpecification{ExcludeBootVolume: aws.Bool(true)}, data, ""},
		"without anything":     {types.InstanceSpecification{ExcludeBootVolume: aws.Bool(true), ExcludeDataVolumeIds: []string{data}}, "", "InvalidParameterCombination"},
		"the root as data":     {types.InstanceSpecification{ExcludeDataVolumeIds: []string{root}}, "", "InvalidParameterValue"},
		"a volume elsewhere":   {types.InstanceSpecification{ExcludeDataVolumeIds: []string{*loose.VolumeId}}, "", "InvalidParameterValue"},
		"a volume that is not": {types.InstanceSpecification{ExcludeDataVolumeIds: []string{"vol-00000000000000000"}}, "", "InvalidVolume.NotFound"},
		"of no instance":       {types.InstanceSpecification{InstanceId: aws.String("i-00000000000000000")}, "", "InvalidInstanceID.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.spec.InstanceId == nil {
				test.spec.InstanceId = &id
			}
			out, err := w.CreateSnapshots(t.Context(), &ec2.CreateSnapshotsInput{
				InstanceSpecification: &test.spec, CopyTagsFromSource: types.CopyTagsFromSourceVolume,
				TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeSnapshot, "more", "tags")},
			})
			if test.code != "" {
				refused(t, err, test.code)
				return
			}
			if err != nil || len(out.Snapshots) != 1 || *out.Snapshots[0].VolumeId != test.want {
				t.Fatalf("made %v, %v; want one of %s", out, err, test.want)
			}
			got := out.Snapshots[0]
			if copied := tagOf(got.Tags, "of") == "volume"; copied != (test.want == root) || tagOf(got.Tags, "more") != "tags" {
				t.Errorf("the snapshot's tags are %v", got.Tags)
			}
			w.untilSnapshot(*got.SnapshotId)
		})
	}
}

func TestAVolumesSnapshotsStayRelatedToItsSource(t *testing.T) {
	w := newWorld(t)
	source := w.snapshot(1)
	var lineage string
	w.books.Read(func() { lineage = w.store.In("eu-west-1").Snapshots[source].Lineage })
	v, err := w.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), SnapshotId: &source})
	if err != nil {
		t.Fatal(err)
	}
	waiter := ec2.NewVolumeAvailableWaiter(w, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	first, err := w.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: v.VolumeId})
	if err != nil {
		t.Fatal(err)
	}
	w.untilSnapshot(*first.SnapshotId)
	if _, err := w.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &source}); err != nil {
		t.Fatal(err)
	}
	w.books.Do(func() {
		r := w.service.in("eu-west-1")
		second := r.begin(r.Volumes[*v.VolumeId], "", nil)
		if got := w.store.In("eu-west-1").Snapshots[*first.SnapshotId].Lineage; got != lineage || second.Lineage != lineage {
			t.Errorf("the lineage went from %s to %s and %s", lineage, got, second.Lineage)
		}
	})
}

func TestSnapshotsOfVolumesProgressWithTime(t *testing.T) {
	typical, err := clock.New(clock.Typical, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, typical, machine.None())
	pending := func(volume string, ago time.Duration) snapshot {
		made := storage.NewSnapshot(time.Now().UTC().Add(-ago), 8)
		made.State, made.VolumeId = storage.Pending, volume
		return snapshot{made}
	}
	for _, test := range []struct {
		name string
		of   snapshot
		want string
	}{
		{"of a volume", pending("vol-0ab1", clock.Snapshot/2+time.Second/2), "50%"},
		{"of a volume, almost done", pending("vol-0ab1", 2*clock.Snapshot), "99%"},
		{"by the direct APIs", pending("", clock.Snapshot/2), "0%"},
	} {
		w.books.Read(func() {
			if got := w.service.in("eu-west-1").snapshotItem(test.of).Progress; got != test.want {
				t.Errorf("%s: progress is %s, want %s", test.name, got, test.want)
			}
		})
	}
}
