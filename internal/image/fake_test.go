package image

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
)

// fakeEC2 is what of EC2 a copy needs. It takes the fake time of a synctest
// bubble for its work.
type fakeEC2 struct {
	mu        sync.Mutex
	images    map[string]*types.Image
	snapshots map[string]types.Snapshot
	tokens    map[string]*ec2.CopyImageInput
	ids       map[string]string // of tokens
	copies    int
	fails     string // the reason that copies fail for
	takes     time.Duration

	inUseUntil  time.Time // snapshots can't be deleted before
	unseenUntil time.Time // images can't be deregistered before
}

func newFake() *fakeEC2 {
	return &fakeEC2{
		images:    map[string]*types.Image{},
		snapshots: map[string]types.Snapshot{},
		tokens:    map[string]*ec2.CopyImageInput{},
		ids:       map[string]string{},
		takes:     time.Minute,
	}
}

func refuse(code string) error { return &smithy.GenericAPIError{Code: code, Message: code} }

func (f *fakeEC2) CopyImage(_ context.Context, in *ec2.CopyImageInput, _ ...func(*ec2.Options)) (*ec2.CopyImageOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if earlier, ok := f.tokens[*in.ClientToken]; ok {
		if Tags(types.Image{Tags: earlier.TagSpecifications[0].Tags})["immutable:run"] != Tags(types.Image{Tags: in.TagSpecifications[0].Tags})["immutable:run"] {
			return nil, refuse("IdempotentParameterMismatch")
		}
		return &ec2.CopyImageOutput{ImageId: aws.String(f.ids[*in.ClientToken])}, nil
	}
	for _, i := range f.images {
		if *i.Name == *in.Name {
			return nil, refuse("InvalidAMIName.Duplicate")
		}
	}
	f.copies++
	id, snapshot := fmt.Sprintf("ami-copy%d", f.copies), fmt.Sprintf("snap-copy%d", f.copies)
	f.tokens[*in.ClientToken], f.ids[*in.ClientToken] = in, id
	f.snapshots[snapshot] = types.Snapshot{SnapshotId: &snapshot, Tags: in.TagSpecifications[1].Tags}
	image := &types.Image{
		ImageId: &id, Name: in.Name, State: types.ImageStatePending, OwnerId: aws.String("me"), Tags: in.TagSpecifications[0].Tags,
		RootDeviceName: aws.String("/dev/xvda"), CreationDate: aws.String(time.Now().UTC().Format(time.RFC3339)),
	}
	f.images[id] = image
	time.AfterFunc(f.takes, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fails != "" {
			image.State, image.StateReason = types.ImageStateFailed, &types.StateReason{Code: aws.String("Client.Failed"), Message: &f.fails}
			return
		}
		image.State = types.ImageStateAvailable
		image.BlockDeviceMappings = []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot, Encrypted: in.Encrypted},
		}}
	})
	return &ec2.CopyImageOutput{ImageId: &id}, nil
}

func has(tags []types.Tag, filters []types.Filter) bool {
	for _, f := range filters {
		key, isTag := cutTag(*f.Name)
		if isTag && !slices.Contains(f.Values, Tags(types.Image{Tags: tags})[key]) {
			return false
		}
	}
	return true
}

func cutTag(filter string) (string, bool) {
	if len(filter) > 4 && filter[:4] == "tag:" {
		return filter[4:], true
	}
	return "", false
}

func (f *fakeEC2) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, _ ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out := &ec2.DescribeImagesOutput{}
	for _, id := range slices.Sorted(maps.Keys(f.images)) {
		i := f.images[id]
		if len(in.ImageIds) > 0 && !slices.Contains(in.ImageIds, id) || !has(i.Tags, in.Filters) {
			continue
		}
		if len(in.ImageIds) == 0 && i.State == types.ImageStateFailed {
			continue
		}
		out.Images = append(out.Images, *i)
	}
	if len(in.ImageIds) > 0 && len(out.Images) == 0 {
		return nil, refuse("InvalidAMIID.NotFound")
	}
	return out, nil
}

func (f *fakeEC2) DescribeSnapshots(_ context.Context, in *ec2.DescribeSnapshotsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &ec2.DescribeSnapshotsOutput{}
	for id, s := range f.snapshots {
		if (len(in.SnapshotIds) == 0 || slices.Contains(in.SnapshotIds, id)) && has(s.Tags, in.Filters) {
			out.Snapshots = append(out.Snapshots, s)
		}
	}
	return out, nil
}

func (f *fakeEC2) DeregisterImage(_ context.Context, in *ec2.DeregisterImageInput, _ ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.images[*in.ImageId]; !ok || time.Now().Before(f.unseenUntil) {
		return nil, refuse("InvalidAMIID.NotFound")
	}
	delete(f.images, *in.ImageId)
	return &ec2.DeregisterImageOutput{}, nil
}

func (f *fakeEC2) DeleteSnapshot(_ context.Context, in *ec2.DeleteSnapshotInput, _ ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.inUseUntil) {
		return nil, refuse("InvalidSnapshot.InUse")
	}
	delete(f.snapshots, *in.SnapshotId)
	return &ec2.DeleteSnapshotOutput{}, nil
}

func (f *fakeEC2) DeleteTags(_ context.Context, in *ec2.DeleteTagsInput, _ ...func(*ec2.Options)) (*ec2.DeleteTagsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gone := func(t types.Tag) bool { return *t.Key == *in.Tags[0].Key }
	for _, id := range in.Resources {
		if i, ok := f.images[id]; ok {
			i.Tags = slices.DeleteFunc(slices.Clone(i.Tags), gone)
		}
		if s, ok := f.snapshots[id]; ok {
			s.Tags = slices.DeleteFunc(slices.Clone(s.Tags), gone)
			f.snapshots[id] = s
		}
	}
	return &ec2.DeleteTagsOutput{}, nil
}
