package image

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

func publicBase() types.Image {
	return types.Image{
		ImageId: aws.String("ami-public"), Name: aws.String("al2023"), OwnerId: aws.String("amazon"), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String("snap-public")}}},
	}
}

func ownBase(encrypted bool) types.Image {
	base := publicBase()
	base.ImageId, base.OwnerId = aws.String("ami-own"), aws.String("me")
	base.BlockDeviceMappings[0].Ebs.Encrypted = &encrypted
	return base
}

func ownerOf(f *fakeEC2, run string) Owner {
	return Owner{
		API: f, Region: "eu-west-1", Account: "me",
		Run: cloud.Run{ID: run, Expires: time.Now().Add(time.Hour)},
		Say: func(string) {},
	}
}

func own(t *testing.T, o Owner, source types.Image) types.Image {
	t.Helper()
	image, err := o.Own(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestAForeignBaseIsCopiedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		first := own(t, ownerOf(f, "run-1"), publicBase())
		second := own(t, ownerOf(f, "run-2"), publicBase())
		if f.copies != 1 || *first.ImageId != *second.ImageId {
			t.Errorf("%d copies; %s, then %s", f.copies, *first.ImageId, *second.ImageId)
		}
		tags := Tags(*f.images[*first.ImageId])
		if tags[TagCopyOf] != "ami-public" {
			t.Errorf("the copy's tags are %v", tags)
		}
		if _, expires := tags[cloud.TagExpires]; expires {
			t.Error("the finished copy still expires")
		}
		for _, s := range f.snapshots {
			if _, expires := Tags(types.Image{Tags: s.Tags})[cloud.TagExpires]; expires {
				t.Error("its snapshot still expires")
			}
		}
	})
}

func TestTwoBuildsAtOnceCopyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		results := make(chan string)
		for _, run := range []string{"run-1", "run-2", "run-3"} {
			go func() { results <- *own(t, ownerOf(f, run), publicBase()).ImageId }()
		}
		for range 3 {
			if id := <-results; id != "ami-copy1" {
				t.Errorf("a build got %s", id)
			}
		}
		if f.copies != 1 {
			t.Errorf("%d copies", f.copies)
		}
	})
}

func TestAnInterruptTakesTheUnfinishedCopyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupt := errors.New("interrupt")
		time.AfterFunc(10*time.Second, func() { cancel(interrupt) })
		if _, err := ownerOf(f, "run-1").Own(ctx, publicBase()); !errors.Is(err, interrupt) {
			t.Errorf("Own gave %v", err)
		}
		if len(f.images)+len(f.snapshots) > 0 {
			t.Errorf("%d images and %d snapshots are left", len(f.images), len(f.snapshots))
		}
	})
}

func TestWhoWaitsForACopyThatIsTakenAwayMakesAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := ownerOf(f, "run-1").Own(ctx, publicBase()); err == nil {
				t.Error("the interrupted build went on")
			}
		}()
		synctest.Wait()
		if got := *own(t, ownerOf(f, "run-2"), publicBase()).ImageId; got != "ami-copy2" {
			t.Errorf("got %s", got)
		}
		<-done
	})
}

func TestACopyThatWasRemovedLaterIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		first := own(t, ownerOf(f, "run-1"), publicBase())
		delete(f.images, *first.ImageId)
		if got := *own(t, ownerOf(f, "run-2"), publicBase()).ImageId; got != "ami-copy2" {
			t.Errorf("got %s", got)
		}
	})
}

func TestACopyThatFailsGivesAWSsReasonAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fails = "the key is disabled"
		_, err := ownerOf(f, "run-1").Own(t.Context(), publicBase())
		if err == nil || !strings.Contains(err.Error(), "the key is disabled") {
			t.Errorf("Own gave %v", err)
		}
		if len(f.images)+len(f.snapshots) > 0 {
			t.Errorf("%d images and %d snapshots are left", len(f.images), len(f.snapshots))
		}
	})
}

func TestWhetherABaseIsCopied(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
	for name, c := range map[string]struct {
		base       types.Image
		encryption Encryption
		copyOf     string // "" for no copy
	}{
		"an own one is not":                                    {ownBase(false), Encryption{}, ""},
		"an own encrypted one is not":                          {ownBase(true), Encryption{}, ""},
		"an own one is, to be encrypted":                       {ownBase(false), Encryption{Wanted: new(true)}, "ami-own encrypted"},
		"an own one is, where all is encrypted":                {ownBase(false), Encryption{ByDefault: true}, "ami-own encrypted"},
		"an own encrypted one is not, to be encrypted":         {ownBase(true), Encryption{Wanted: new(true)}, ""},
		"an own encrypted one is not, to be unencrypted":       {ownBase(true), Encryption{Wanted: new(false)}, ""},
		"an own encrypted one is not, for the key it has":      {ownBase(true), Encryption{Wanted: new(true), Key: arn}, ""},
		"an own encrypted one is not, for its key's id":        {ownBase(true), Encryption{Wanted: new(true), Key: "1234abcd"}, ""},
		"an own encrypted one is, for another key":             {ownBase(true), Encryption{Wanted: new(true), Key: "alias/other"}, "ami-own encrypted alias/other"},
		"a foreign one is":                                     {publicBase(), Encryption{}, "ami-public"},
		"a foreign one is, and encrypted, to be encrypted":     {publicBase(), Encryption{Wanted: new(true)}, "ami-public encrypted"},
		"a foreign one is, and encrypted, where everything is": {publicBase(), Encryption{ByDefault: true}, "ami-public encrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.snapshots["snap-public"] = types.Snapshot{SnapshotId: aws.String("snap-public"), KmsKeyId: aws.String(arn)}
				o := ownerOf(f, "run")
				o.Encryption = c.encryption
				got := own(t, o, c.base)
				if tag := Tags(got)[TagCopyOf]; tag != c.copyOf {
					t.Errorf("it is a copy of %q, want %q", tag, c.copyOf)
				}
				for token, request := range f.tokens {
					if aws.ToBool(request.Encrypted) != strings.Contains(c.copyOf, "encrypted") || len(token) > 64 {
						t.Errorf("the copy was asked for as %+v", request)
					}
				}
			})
		})
	}
}

func TestCopiesOfDifferentEncryptionAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		plain, secret := ownerOf(f, "run-1"), ownerOf(f, "run-1")
		secret.Encryption = Encryption{Wanted: new(true)}
		if a, b := own(t, plain, publicBase()), own(t, secret, publicBase()); *a.ImageId == *b.ImageId {
			t.Errorf("both are %s", *a.ImageId)
		}
	})
}

func TestASnapshotThatLooksInUseForAMomentIsDeleted(t *testing.T) {
	for name, c := range map[string]struct {
		inUse time.Duration
		left  int
	}{
		"for a moment":     {5 * time.Second, 0},
		"by another image": {time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.snapshots["snap-public"] = types.Snapshot{}
				f.inUseUntil = time.Now().Add(c.inUse)
				if err := DeleteSnapshots(t.Context(), f, publicBase()); err != nil {
					t.Error(err)
				}
				if len(f.snapshots) != c.left {
					t.Errorf("%d snapshots are left", len(f.snapshots))
				}
			})
		})
	}
}

func TestAnImageThatIsNotSeenYetIsDeregistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.images["ami-new"] = &types.Image{ImageId: aws.String("ami-new")}
		f.unseenUntil = time.Now().Add(2 * time.Minute)
		if err := Deregister(t.Context(), f, "ami-new", cloud.Born()); err != nil || len(f.images) != 0 {
			t.Errorf("images are left: %d (%v)", len(f.images), err)
		}
		if err := Deregister(t.Context(), f, "ami-old", nil); err != nil {
			t.Errorf("one that is gone: %v", err)
		}
	})
}
