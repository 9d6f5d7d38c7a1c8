package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
)

// disks makes a random base and a random successor of it: blocks changed in a
// byte, emptied, filled, and left alone.
func disks(r *rand.Rand, count int) (base, work []byte) {
	base = make([]byte, count*blockSize)
	// Some pages of a block have data, as on a real disk.
	fill := func(block []byte) {
		for range 1 + r.Intn(3) {
			r.Read(block[r.Intn(len(block)/4096)*4096:][:4096])
		}
	}
	for i := range count {
		if r.Intn(2) == 0 {
			fill(base[i*blockSize : (i+1)*blockSize])
		}
	}
	work = bytes.Clone(base)
	for i := range count {
		block := work[i*blockSize : (i+1)*blockSize]
		switch r.Intn(6) {
		case 0:
			block[r.Intn(blockSize)] ^= 1
		case 1:
			clear(block)
		case 2:
			fill(block)
		}
	}
	return base, work
}

// sparse writes a disk to a file, with holes in place of pages of zeros, or
// sometimes with written zeros.
func sparse(t *testing.T, r *rand.Rand, disk []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	const page = 4096
	for at := 0; at < len(disk); at += page {
		data := disk[at:min(at+page, len(disk))]
		if bytes.Equal(data, make([]byte, len(data))) && r.Intn(8) > 0 {
			continue
		}
		if _, err := f.WriteAt(data, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(len(disk))); err != nil {
		t.Fatal(err)
	}
	return f
}

// differing are the blocks in which two disks differ, by comparing bytes.
func differing(a, b []byte) []int32 {
	var list []int32
	for i := 0; i*blockSize < len(b); i++ {
		end := min((i+1)*blockSize, len(b))
		if !bytes.Equal(a[i*blockSize:end], b[i*blockSize:end]) {
			list = append(list, int32(i))
		}
	}
	return list
}

func indexOf(s *service, id string) *Index {
	x := &Index{}
	for _, i := range s.indexes(id) {
		x.Blocks = append(x.Blocks, blocks.Block{Index: i, Digest: blocks.Sum(s.block(id, i))})
	}
	return x
}

func upload(ctx context.Context, s *service, f *os.File, plan Plan, changed []blocks.Block) error {
	u, err := Start(ctx, s, plan)
	if err != nil {
		return err
	}
	if err := u.Write(ctx, &quiet{}, f, changed); err != nil {
		return err
	}
	return u.Complete(ctx, changed)
}

func assertReadsBack(t *testing.T, s *service, disk []byte) {
	t.Helper()
	if !s.snapshots["snap-new"].completed {
		t.Error("the snapshot is not completed")
	}
	for i := 0; i*blockSize < len(disk); i++ {
		want := make([]byte, blockSize)
		copy(want, disk[i*blockSize:])
		if !bytes.Equal(s.block("snap-new", int32(i)), want) {
			t.Errorf("block %d of the snapshot is not that of the disk", i)
		}
	}
}

func TestWhatDiffersIsUploadedAndReadsBackAsTheDisk(t *testing.T) {
	for seed := range int64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewSource(seed))
			base, work := disks(r, 1+r.Intn(70))
			work = work[:len(work)-r.Intn(blockSize)]
			s := newService(t)
			s.add("snap-base", 1, base)
			f := sparse(t, r, work)

			changed, err := Diff(t.Context(), f, indexOf(s, "snap-base"))
			if err != nil {
				t.Fatal(err)
			}
			plan := Plan{Size: int64(len(work)), Parent: "snap-base", Token: "t"}
			if err := upload(t.Context(), s, f, plan, changed); err != nil {
				t.Fatal(err)
			}

			assertReadsBack(t, s, work)
			want := differing(base[:len(work)], work)
			got := make([]int32, 0, len(s.snapshots["snap-new"].written))
			for i := range s.snapshots["snap-new"].written {
				got = append(got, i)
			}
			slices.Sort(got)
			// The base has data beyond the end of a disk that was cut short.
			last := int32(len(work) / blockSize)
			if len(work)%blockSize != 0 && !slices.Contains(want, last) {
				got = slices.DeleteFunc(got, func(i int32) bool { return i == last })
			}
			if !slices.Equal(got, want) {
				t.Errorf("blocks %v were uploaded; %v differ", got, want)
			}
		})
	}
}

func TestAnUnchangedDiskUploadsNothing(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	base, _ := disks(r, 20)
	s := newService(t)
	s.add("snap-base", 1, base)
	f := sparse(t, r, base)
	changed, err := Diff(t.Context(), f, indexOf(s, "snap-base"))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(t.Context(), s, f, Plan{Size: int64(len(base)), Parent: "snap-base"}, changed); err != nil {
		t.Fatal(err)
	}
	if n := s.called("Put"); n != 0 {
		t.Errorf("%d blocks were uploaded", n)
	}
	assertReadsBack(t, s, base)
}

func TestAnEncryptedSnapshotWithoutParentGetsItsZerosToo(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	disk, _ := disks(r, 30)
	s := newService(t)
	f := sparse(t, r, disk)
	all, err := All(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload(t.Context(), s, f, Plan{Size: int64(len(disk)), Encrypted: true}, all); err != nil {
		t.Fatal(err)
	}
	assertReadsBack(t, s, disk)
	// The volume is a whole GiB, and must not end in random bytes.
	if n := len(s.snapshots["snap-new"].written); n != 2048 {
		t.Errorf("%d blocks were written", n)
	}
}

func TestUploadOutlastsPassingTrouble(t *testing.T) {
	for name, trouble := range map[string]func(ctx context.Context, n int) error{
		"throttling": func(_ context.Context, n int) error {
			if n%3 != 0 {
				return &types.RequestThrottledException{}
			}
			return nil
		},
		"stalled connections": func(ctx context.Context, n int) error {
			if n%7 == 0 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		},
		"internal errors": func(_ context.Context, n int) error {
			if n%4 == 0 {
				return &types.InternalServerException{}
			}
			return nil
		},
		"a write that was cut off": func(_ context.Context, n int) error {
			if n == 5 {
				return &types.ValidationException{Reason: types.ValidationExceptionReasonWriteRequestTimeout}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewSource(2))
				base, work := disks(r, 60)
				s := newService(t)
				s.add("snap-base", 1, base)
				s.trouble = func(ctx context.Context, operation string, n int) error {
					if operation != "Put" {
						return nil
					}
					return trouble(ctx, n)
				}
				f := sparse(t, r, work)
				changed, err := Diff(t.Context(), f, indexOf(s, "snap-base"))
				if err != nil {
					t.Fatal(err)
				}
				if err := upload(t.Context(), s, f, Plan{Size: int64(len(work)), Parent: "snap-base"}, changed); err != nil {
					t.Fatal(err)
				}
				assertReadsBack(t, s, work)
			})
		})
	}
}

func TestASnapshotMayBeInvisibleAtFirst(t *testing.T) {
	for name, c := range map[string]struct {
		invisible time.Duration
		fails     bool
	}{
		"for 56 s, as was seen": {56 * time.Second, false},
		"for good":              {time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewSource(3))
				_, work := disks(r, 6)
				s := newService(t)
				began := time.Now()
				s.trouble = func(_ context.Context, operation string, _ int) error {
					if operation != "Start" && time.Since(began) < c.invisible {
						return &types.ResourceNotFoundException{Reason: types.ResourceNotFoundExceptionReasonSnapshotNotFound}
					}
					return nil
				}
				f := sparse(t, r, work)
				changed, err := Diff(t.Context(), f, &Index{})
				if err != nil {
					t.Fatal(err)
				}
				err = upload(t.Context(), s, f, Plan{Size: int64(len(work))}, changed)
				if missing := (*types.ResourceNotFoundException)(nil); errors.As(err, &missing) != c.fails {
					t.Errorf("upload gave %v", err)
				}
			})
		})
	}
}

func TestARefusalEndsTheUploadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewSource(4))
		_, work := disks(r, 100)
		s := newService(t)
		s.trouble = func(_ context.Context, operation string, _ int) error {
			if operation == "Put" {
				return &types.AccessDeniedException{}
			}
			return nil
		}
		f := sparse(t, r, work)
		changed, err := Diff(t.Context(), f, &Index{})
		if err != nil {
			t.Fatal(err)
		}
		err = upload(t.Context(), s, f, Plan{Size: int64(len(work))}, changed)
		if denied := (*types.AccessDeniedException)(nil); !errors.As(err, &denied) {
			t.Fatalf("upload gave %v", err)
		}
		if n := s.called("Put"); n > workers {
			t.Errorf("%d blocks were tried after the first refusal", n)
		}
		if s.called("Complete") != 0 {
			t.Error("the snapshot was completed")
		}
	})
}

func TestADiskThatChangesAfterTheComparisonIsRefused(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	_, work := disks(r, 8)
	s := newService(t)
	f := sparse(t, r, work)
	changed, err := Diff(t.Context(), f, &Index{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("late"), int64(changed[0].Index)*blockSize); err != nil {
		t.Fatal(err)
	}
	if err := upload(t.Context(), s, f, Plan{Size: int64(len(work))}, changed); err == nil {
		t.Error("what was written is not what was compared, and nobody noticed")
	}
}

func TestAnInterruptEndsTheUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewSource(6))
		_, work := disks(r, 20)
		s := newService(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupt := errors.New("interrupt")
		s.trouble = func(ctx context.Context, operation string, n int) error {
			if operation != "Put" {
				return nil
			}
			if n == 2 {
				cancel(interrupt)
			}
			<-ctx.Done()
			return ctx.Err()
		}
		f := sparse(t, r, work)
		changed, err := Diff(t.Context(), f, &Index{})
		if err != nil {
			t.Fatal(err)
		}
		if err := upload(ctx, s, f, Plan{Size: int64(len(work))}, changed); !errors.Is(err, interrupt) {
			t.Errorf("upload gave %v", err)
		}
	})
}

func TestProgressShowsEveryByteOnce(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	_, work := disks(r, 40)
	s := newService(t)
	f := sparse(t, r, work)
	changed, err := Diff(t.Context(), f, &Index{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := Start(t.Context(), s, Plan{Size: int64(len(work))})
	if err != nil {
		t.Fatal(err)
	}
	var ui quiet
	if err := u.Write(t.Context(), &ui, f, changed); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(changed)) * blockSize; ui.shown != want {
		t.Errorf("%d bytes were shown, %d uploaded", ui.shown, want)
	}
}

func TestACompletionWhoseAnswerIsLostIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		s.lost = 1
		u, err := Start(t.Context(), s, Plan{Size: blocks.GiB, Token: "t"})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Complete(t.Context(), nil); err != nil || !s.snapshots[u.ID].completed {
			t.Errorf("completed: %t (%v)", s.snapshots[u.ID].completed, err)
		}
		if err := u.Complete(t.Context(), nil); err == nil {
			t.Error("a snapshot that is not pending was completed with no answer lost")
		}
	})
}

// keeper is EC2 that sees a snapshot from a time on, until it is deleted.
type keeper struct {
	Keeper
	from    time.Time
	deleted bool
}

func (k *keeper) DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error) {
	if k.deleted || time.Now().Before(k.from) {
		return nil, &smithy.GenericAPIError{Code: "InvalidSnapshot.NotFound"}
	}
	k.deleted = true
	return &ec2.DeleteSnapshotOutput{}, nil
}

func (k *keeper) DescribeSnapshots(_ context.Context, in *ec2.DescribeSnapshotsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	if k.deleted || time.Now().Before(k.from) {
		return nil, &smithy.GenericAPIError{Code: "InvalidSnapshot.NotFound"}
	}
	return &ec2.DescribeSnapshotsOutput{Snapshots: []ec2types.Snapshot{{SnapshotId: &in.SnapshotIds[0], State: ec2types.SnapshotStateCompleted}}}, nil
}

func TestASnapshotThatIsNotSeenYetIsWaitedFor(t *testing.T) {
	for name, what := range map[string]func(context.Context, *Upload, *keeper) error{
		"to be described": func(ctx context.Context, u *Upload, k *keeper) error {
			_, err := Describe(ctx, k, u.ID)
			return err
		},
		"to be completed": func(ctx context.Context, u *Upload, k *keeper) error { return u.Wait(ctx, k) },
		"to be deleted": func(ctx context.Context, u *Upload, k *keeper) error {
			if err := u.Delete(ctx, k); err != nil || !k.deleted {
				return fmt.Errorf("deleted: %t (%w)", k.deleted, err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, err := Start(t.Context(), newService(t), Plan{Size: blocks.GiB, Token: "t"})
				if err != nil {
					t.Fatal(err)
				}
				if err := what(t.Context(), u, &keeper{from: time.Now().Add(2 * time.Minute)}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
