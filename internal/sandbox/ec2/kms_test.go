package ec2

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

const (
	ownKey     = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	foreignKey = "arn:aws:kms:eu-west-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

func TestWhichKeysThereAre(t *testing.T) {
	w := newWorld(t)
	for named, test := range map[string]struct {
		arn        string // "" for any
		accessible bool
	}{
		"1234abcd-12ab-34cd-56ef-1234567890ab":     {ownKey, true},
		"key/1234abcd-12ab-34cd-56ef-1234567890ab": {ownKey, true},
		ownKey:                                 {ownKey, true},
		"mrk-1234abcd12ab34cd56ef1234567890ab": {"", true},
		"alias/mine":                           {"", true},
		"arn:aws:kms:eu-west-1:123456789012:alias/mine": {"", true},
		"alias/aws/ebs":    {"", true},
		"alias/aws/lambda": {"", false},
		"mine":             {"", false},
		foreignKey:         {foreignKey, false},
		"arn:aws:kms:us-east-1:123456789012:key/" + ownKey[39:]:    {"", false},
		"arn:aws:kms:eu-west-1:999999999999:alias/mine":            {"", false},
		"arn:aws:kms:eu-west-1:123456789012:alias/aws/not-for-ebs": {"", false},
	} {
		w.books.Read(func() {
			r := w.service.in("eu-west-1")
			arn := r.key(named)
			if test.arn != "" && arn != test.arn {
				t.Errorf("%s is the key %s, want %s", named, arn, test.arn)
			}
			if r.accessible(arn) != test.accessible {
				t.Errorf("%s is accessible: %v, want %v", named, !test.accessible, test.accessible)
			}
		})
	}
	w.books.Read(func() {
		r := w.service.in("eu-west-1")
		if r.key("alias/mine") != r.key("arn:aws:kms:eu-west-1:123456789012:alias/mine") || r.key("alias/mine") == r.key("alias/other") || r.key("") != r.key("alias/aws/ebs") {
			t.Error("an alias does not stand for one key")
		}
	})
}

func TestCopySnapshotEncryption(t *testing.T) {
	w := newWorld(t)
	plain := w.snapshot(1)
	secret := w.snapshot(1, func(s *storage.Snapshot) { s.Encrypted, s.KmsKeyId = true, ownKey })
	foreign := w.snapshot(1, func(s *storage.Snapshot) {
		s.Encrypted, s.KmsKeyId, s.OwnerId, s.SharedTo = true, foreignKey, "999999999999", []string{api.Account}
	})
	var defaultKey, mine string
	w.books.Read(func() {
		r := w.service.in("eu-west-1")
		defaultKey, mine = r.defaultKey(), r.key("alias/mine")
	})
	yes, no := aws.Bool(true), aws.Bool(false)
	for name, test := range map[string]struct {
		source    string
		encrypted *bool
		key       string
		byDefault bool
		code      string // of a refusal
		want      string // the copy's key
		failed    bool
	}{
		"plain":                        {source: plain},
		"plain encrypted":              {source: plain, encrypted: yes, want: defaultKey},
		"plain encrypted with a key":   {source: plain, encrypted: yes, key: "alias/mine", want: mine},
		"plain by default":             {source: plain, byDefault: true, want: defaultKey},
		"plain by default with a key":  {source: plain, byDefault: true, encrypted: yes, key: ownKey, want: ownKey},
		"secret":                       {source: secret, want: defaultKey},
		"secret with a key":            {source: secret, encrypted: yes, key: "alias/mine", want: mine},
		"secret in plain":              {source: secret, encrypted: no, code: "InvalidRequest"},
		"a key without encryption":     {source: plain, key: ownKey, code: "InvalidParameterDependency"},
		"a key that is not accessible": {source: plain, encrypted: yes, key: "mine", failed: true, want: "arn:aws:kms:eu-west-1:123456789012:key/mine"},
		"another's key":                {source: foreign, failed: true, want: defaultKey},
	} {
		t.Run(name, func(t *testing.T) {
			w.books.Do(func() { w.service.in("eu-west-1").EncryptionByDefault = test.byDefault })
			in := &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &test.source, Encrypted: test.encrypted}
			if test.key != "" {
				in.KmsKeyId = &test.key
			}
			out, err := w.CopySnapshot(t.Context(), in)
			if test.code != "" {
				refused(t, err, test.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := w.describeSnapshot(*out.SnapshotId)
			if aws.ToString(got.KmsKeyId) != test.want || *got.Encrypted != (test.want != "") {
				t.Errorf("the copy has the key %q, want %q", aws.ToString(got.KmsKeyId), test.want)
			}
			if failed := got.State == types.SnapshotStateError && *got.StateMessage == keyNotAccessible; failed != test.failed {
				t.Errorf("the copy is %s (%s), want it failed: %v", got.State, aws.ToString(got.StateMessage), test.failed)
			}
		})
	}
}

func TestCopyImageFailsLaterWithoutItsKey(t *testing.T) {
	w := newWorld(t)
	id := w.image("plain")
	out, err := w.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: aws.String("secret"), SourceImageId: &id, SourceRegion: aws.String("eu-west-1"), Encrypted: aws.Bool(true), KmsKeyId: aws.String("forgot-the-prefix"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.describeImage(*out.ImageId); got.State != types.ImageStateFailed || got.StateReason == nil || *got.StateReason.Message != "AMI snapshot copy failed with error: "+keyNotAccessible {
		t.Errorf("the copy is %s, %v", got.State, got.StateReason)
	}
}

func TestCopySnapshotsPresignedURL(t *testing.T) {
	w := newWorld(t)
	secret := w.snapshot(1, func(s *storage.Snapshot) { s.Encrypted, s.KmsKeyId = true, ownKey })
	there := w.elsewhere("us-east-1")
	signed, err := ec2.NewPresignClient(w.Client).PresignCopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &secret})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		url  *string
		want types.SnapshotState
	}{
		"the SDK's own":             {nil, types.SnapshotStateCompleted},
		"for no destination":        {&signed.URL, types.SnapshotStateError},
		"something else altogether": {aws.String("https://example.com"), types.SnapshotStateError},
		"something that is no URL":  {aws.String("://"), types.SnapshotStateError},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := there.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceRegion: aws.String("eu-west-1"), SourceSnapshotId: &secret, PresignedUrl: test.url})
			if err != nil {
				t.Fatal(err)
			}
			got, err := there.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*out.SnapshotId}})
			if err != nil || got.Snapshots[0].State != test.want {
				t.Errorf("the copy is %s, %v; want %s", got.Snapshots[0].State, err, test.want)
			}
		})
	}
}

func TestVolumeEncryption(t *testing.T) {
	w := newWorld(t)
	plain := w.snapshot(1)
	secret := w.snapshot(1, func(s *storage.Snapshot) { s.Encrypted, s.KmsKeyId = true, ownKey })
	shared := w.snapshot(1, func(s *storage.Snapshot) {
		s.Encrypted, s.KmsKeyId, s.OwnerId, s.SharedTo = true, foreignKey, "999999999999", []string{api.Account}
	})
	var defaultKey, mine string
	w.books.Read(func() {
		r := w.service.in("eu-west-1")
		defaultKey, mine = r.defaultKey(), r.key("alias/mine")
	})
	for name, test := range map[string]struct {
		source    string
		encrypted bool
		key       string
		byDefault bool
		want      string
	}{
		"new":                           {},
		"new encrypted":                 {encrypted: true, want: defaultKey},
		"new by default":                {byDefault: true, want: defaultKey},
		"plain":                         {source: plain},
		"plain by default":              {source: plain, byDefault: true, want: defaultKey},
		"plain encrypted with a key":    {source: plain, encrypted: true, key: "alias/mine", want: mine},
		"secret":                        {source: secret, want: ownKey},
		"secret encrypted":              {source: secret, encrypted: true, want: ownKey},
		"secret by default":             {source: secret, byDefault: true, want: ownKey},
		"secret encrypted with a key":   {source: secret, encrypted: true, key: "alias/mine", want: mine},
		"shared with the caller":        {source: shared, want: defaultKey},
		"shared with the caller, a key": {source: shared, encrypted: true, key: "alias/mine", want: mine},
	} {
		t.Run(name, func(t *testing.T) {
			w.books.Do(func() { w.service.in("eu-west-1").EncryptionByDefault = test.byDefault })
			in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1)}
			if test.source != "" {
				in.SnapshotId = &test.source
			}
			if test.encrypted {
				in.Encrypted = &test.encrypted
			}
			if test.key != "" {
				in.KmsKeyId = &test.key
			}
			v, err := w.CreateVolume(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(v.KmsKeyId) != test.want || *v.Encrypted != (test.want != "") {
				t.Errorf("encrypted %v with %q, want %q", *v.Encrypted, aws.ToString(v.KmsKeyId), test.want)
			}
		})
	}
}

func TestVolumeWithoutItsKeyVanishes(t *testing.T) {
	w := newWorld(t)
	v, err := w.CreateVolume(t.Context(), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String("eu-west-1a"), Size: aws.Int32(1), Encrypted: aws.Bool(true), KmsKeyId: aws.String(foreignKey),
	})
	if err != nil || v.State != types.VolumeStateCreating {
		t.Fatalf("created %v, %v", v, err)
	}
	waiter := ec2.NewVolumeAvailableWaiter(w, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	refused(t, waiter.Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}}, time.Minute), "InvalidVolume.NotFound")
}

func TestInstanceWithoutItsKeyIsTerminated(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.BlockDeviceMappings = []types.BlockDeviceMapping{{
		DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1), Encrypted: aws.Bool(true), KmsKeyId: aws.String(foreignKey)},
	}}
	id := w.run(in)[0]
	w.untilTerminated(id)
	if got := w.describeInstance(id).StateReason; got == nil || *got.Code != "Client.InternalError" {
		t.Errorf("it was terminated because of %v", got)
	}
}
