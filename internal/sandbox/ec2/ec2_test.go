package ec2

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/gate"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// world is an EC2 whose instances are only states, and AWS's client of it.
type world struct {
	*testing.T
	*ec2.Client
	service    *Service
	books      *state.Books
	store      *storage.Store
	parameters map[string]string
	config     aws.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, doortest.Clock(t), machine.None())
}

func newWorldOn(t *testing.T, clock *clock.Clock, host machine.Host) *world {
	t.Helper()
	w := &world{T: t, books: doortest.Books(t), parameters: map[string]string{}}
	w.service = newService(t, w.books, clock, host, w.parameters)
	w.store = w.service.store
	t.Cleanup(func() {
		clock.Stop()
		w.service.Close(context.Background())
	})
	w.config = doortest.Serve(t, w.books, clock, w.service.API())
	w.Client = ec2.NewFromConfig(w.config)
	return w
}

// elsewhere is a client for another region.
func (w *world) elsewhere(region string) *ec2.Client {
	return ec2.NewFromConfig(w.config, func(o *ec2.Options) { o.Region = region })
}

// snapshot puts a completed snapshot with one block into the region.
func (w *world) snapshot(sizeGiB int, change ...func(*storage.Snapshot)) string {
	w.Helper()
	contents := make([]byte, block.Size)
	copy(contents, w.Name())
	digest := block.Sum(contents)
	if err := w.store.PutBlock(digest, contents); err != nil {
		w.Fatal(err)
	}
	blocks := w.store.Empty()
	blocks.Set(3, digest)
	s := storage.NewSnapshot(time.Now().UTC(), sizeGiB)
	for _, f := range change {
		f(s)
	}
	w.books.Do(func() {
		w.store.Add(doortest.Region, s, blocks)
		if err := w.store.Complete(doortest.Region, s, nil, time.Now().UTC()); err != nil {
			w.Error(err)
		}
	})
	return s.Id
}

// ami is what RegisterImage is given for an image such as Amazon Linux 2023.
func (w *world) ami(name string) *ec2.RegisterImageInput {
	w.Helper()
	return &ec2.RegisterImageInput{
		Name: &name, Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		RootDeviceName: aws.String("/dev/xvda"), EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"),
		BootMode: types.BootModeValuesUefiPreferred, ImdsSupport: types.ImdsSupportValuesV20,
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"),
			Ebs:        &types.EbsBlockDevice{SnapshotId: aws.String(w.snapshot(2)), VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(true)},
		}},
	}
}

// image registers an image and gives its id.
func (w *world) image(name string) string {
	w.Helper()
	out, err := w.RegisterImage(w.Context(), w.ami(name))
	if err != nil {
		w.Fatal(err)
	}
	return *out.ImageId
}

func (w *world) describeImage(id string) types.Image {
	w.Helper()
	out, err := w.DescribeImages(w.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		w.Fatal(err)
	}
	return out.Images[0]
}

// amazon publishes an image of Amazon's.
func (w *world) amazon(name string) string {
	w.Helper()
	root := w.snapshot(2, func(s *storage.Snapshot) { s.OwnerId, s.Public = api.Amazon, true })
	var id string
	w.books.Do(func() {
		var err error
		if id, err = w.service.Publish(doortest.Region, PublicImage{Name: name, Architecture: "x86_64", SnapshotId: root}); err != nil {
			w.Error(err)
		}
	})
	return id
}

// run runs instances and gives their ids.
func (w *world) run(in *ec2.RunInstancesInput) []string {
	w.Helper()
	out, err := w.RunInstances(w.Context(), in)
	if err != nil {
		w.Fatal(err)
	}
	var ids []string
	for _, i := range out.Instances {
		ids = append(ids, *i.InstanceId)
	}
	return ids
}

func single(image string) *ec2.RunInstancesInput {
	return &ec2.RunInstancesInput{ImageId: &image, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
}

func (w *world) describeInstance(id string) types.Instance {
	w.Helper()
	out, err := w.DescribeInstances(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		w.Fatal(err)
	}
	return out.Reservations[0].Instances[0]
}

// until waits with one of AWS's own waiters, impatiently.
const impatient = time.Millisecond

func (w *world) untilRunning(ids ...string) {
	w.Helper()
	waiter := ec2.NewInstanceRunningWaiter(w, func(o *ec2.InstanceRunningWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: ids}, time.Minute); err != nil {
		w.Fatal(err)
	}
}

func (w *world) untilStopped(ids ...string) {
	w.Helper()
	waiter := ec2.NewInstanceStoppedWaiter(w, func(o *ec2.InstanceStoppedWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: ids}, time.Minute); err != nil {
		w.Fatal(err)
	}
}

func (w *world) untilTerminated(ids ...string) {
	w.Helper()
	waiter := ec2.NewInstanceTerminatedWaiter(w, func(o *ec2.InstanceTerminatedWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: ids}, time.Minute); err != nil {
		w.Fatal(err)
	}
}

func (w *world) untilImage(client *ec2.Client, id string) {
	w.Helper()
	waiter := ec2.NewImageAvailableWaiter(client, func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(w.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}}, time.Minute); err != nil {
		w.Fatal(err)
	}
}

func (w *world) untilSnapshot(id string) {
	w.Helper()
	waiter := ec2.NewSnapshotCompletedWaiter(w, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(w.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}, time.Minute); err != nil {
		w.Fatal(err)
	}
}

// refused checks that an error is AWS's of the code.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("got %v, want the error %s", err, code)
	}
}

func tagOf(tags []types.Tag, key string) string {
	for _, t := range tags {
		if *t.Key == key {
			return aws.ToString(t.Value)
		}
	}
	return "<none>"
}

func specify(kind types.ResourceType, key, value string) types.TagSpecification {
	return types.TagSpecification{ResourceType: kind, Tags: []types.Tag{{Key: &key, Value: &value}}}
}

// newService makes a service.
func newService(t *testing.T, books *state.Books, c *clock.Clock, host machine.Host, parameters map[string]string) *Service {
	t.Helper()
	store, err := storage.Open(books)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	public, gates := reachable(t, host)
	s, err := New(Config{
		Books: books, Clock: c, Store: store, Host: host, Public: public, Gates: gates,
		Parameter: func(_, name string) (string, bool) { value, ok := parameters[name]; return value, ok },
		Report:    func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reachable gives instances public addresses, and machines ones that lead to them.
func reachable(t *testing.T, host machine.Host) (netip.Prefix, *gate.Gates) {
	t.Helper()
	if host == machine.None() {
		return netip.MustParsePrefix("198.18.0.0/15"), nil
	}
	gates, err := gate.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := gates.Close(); err != nil {
			t.Error(err)
		}
	})
	process := os.Getpid() // so that two tests that run at once have addresses of their own
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 64 | byte(process>>8), byte(process), 128}), 25), gates
}

// hello makes an image and a launch template of it. The books must be held.
func hello(t *testing.T, s *Service) TemplateRef {
	t.Helper()
	root := storage.NewSnapshot(time.Now(), 1)
	root.OwnerId, root.Public = api.Amazon, true
	s.store.Add("eu-west-1", root, nil)
	if err := s.store.Complete("eu-west-1", root, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	id, err := s.Publish("eu-west-1", PublicImage{Name: "base", Architecture: "x86_64", SnapshotId: root.Id})
	if err != nil {
		t.Fatal(err)
	}
	call := api.NewCall(s.books)
	call.Begin("ec2", "CreateLaunchTemplate")
	_, err = s.in("eu-west-1").createLaunchTemplate(call, &createLaunchTemplateInput{
		LaunchTemplateName: "hello", LaunchTemplateData: &launchData{ImageId: id, InstanceType: "t3.micro"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return TemplateRef{Name: "hello"}
}

// runOne runs an instance. The books must be held.
func runOne(t *testing.T, s *Service) string {
	t.Helper()
	members, err := s.Fleet("eu-west-1").Launch(t.Context(), LaunchOrder{Template: hello(t, s), Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	return members[0].ID
}

// reopen gives a service that knows what one that is closed knew, as New gives
// it, but for the books, which cannot be opened twice.
func reopen(closed *Service) *Service {
	s := &Service{
		books: closed.books, clock: closed.clock, store: closed.store, pages: closed.pages, addresses: newAddresses(),
		shortages: closed.shortages,
		parameter: closed.parameter, report: closed.report, real: closed.real,
		unfilled: map[string]*storage.Blocks{},
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.runs = newMachines(s, closed.runs.host)
	s.public = newPublic(s, closed.public.pool, closed.public.gates)
	s.heralds = &heralds{subscribers: map[*subscriber]struct{}{}, spawn: s.spawn}
	return s
}
