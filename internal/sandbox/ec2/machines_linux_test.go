package ec2

import (
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/basedisk"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// newRealWorld is a world whose instances are machines, and the base's image.
func newRealWorld(t *testing.T) (w *world, base string) {
	t.Helper()
	disk := basedisk.Path(t)
	host, err := machine.New(netip.MustParsePrefix("172.31.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	w = newWorldOn(t, doortest.Clock(t), host)
	blocks, err := w.store.Import(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	root := storage.NewSnapshot(time.Now().UTC(), 8)
	root.OwnerId, root.Public = api.Amazon, true
	w.books.Do(func() {
		w.store.Add("eu-west-1", root, nil)
		if err := w.store.Complete("eu-west-1", root, blocks, time.Now().UTC()); err != nil {
			t.Error(err)
			return
		}
		if base, err = w.service.Publish("eu-west-1", PublicImage{Name: "base", Architecture: "x86_64", SnapshotId: root.Id}); err != nil {
			t.Error(err)
		}
	})
	return w, base
}

// script runs an instance that carries a shell script out at its first boot.
func (w *world) script(image, text string) string {
	w.Helper()
	in := single(image)
	in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n" + text)))
	return w.run(in)[0]
}

// untilPrinted waits until an instance has printed a line that has the text.
func (w *world) untilPrinted(id, text string) {
	w.Helper()
	var printed []byte
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := w.GetConsoleOutput(w.Context(), &ec2.GetConsoleOutputInput{InstanceId: &id})
		if err != nil {
			w.Fatal(err)
		}
		if printed, err = base64.StdEncoding.DecodeString(aws.ToString(out.Output)); err != nil {
			w.Fatal(err)
		}
		if strings.Contains(string(printed), text) {
			return
		}
	}
	w.Fatalf("instance %s never printed %q, but:\n%s", id, text, printed)
}

func (w *world) volumeFiles() []string {
	dir, err := w.books.Dir("eu-west-1", "volumes")
	if err != nil {
		w.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		w.Fatal(err)
	}
	return files
}

func TestImageOfARealInstanceHasWhatTheInstanceWrote(t *testing.T) {
	w, base := newRealWorld(t)
	first := w.script(base, "echo made-by-$(hostname) > /made\necho wrote it > /dev/console\n")
	w.untilRunning(first)
	w.untilPrinted(first, "wrote it")
	name := strings.Split(*w.describeInstance(first).PrivateDnsName, ".")[0]

	made, err := w.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &first, Name: aws.String("made")})
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(w.Client, *made.ImageId)
	if _, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{first}}); err != nil {
		t.Fatal(err)
	}
	w.untilTerminated(first)
	if files := w.volumeFiles(); len(files) > 0 {
		t.Errorf("left of a terminated instance: %v", files)
	}

	second := w.script(*made.ImageId, "cat /made > /dev/console\nsystemctl poweroff\n")
	w.untilPrinted(second, "made-by-"+name)
	w.untilStopped(second)
	if got := w.describeInstance(second).StateReason; *got.Code != "Client.InstanceInitiatedShutdown" {
		t.Errorf("the instance that shut itself down is stopped because of %s", *got.Code)
	}
	if files := w.volumeFiles(); len(files) != 1 {
		t.Errorf("a stopped instance has the files %v", files)
	}
}

func TestRealInstanceStopsAndStartsAndItsSandboxReopens(t *testing.T) {
	w, base := newRealWorld(t)
	id := w.script(base, "echo first boot > /dev/console\n")
	w.untilRunning(id)
	w.untilPrinted(id, "first boot")
	if _, err := w.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilStopped(id)
	if _, err := w.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilRunning(id)

	// What a sandbox that is killed leaves: an instance that runs, and the file
	// of a volume that was still being made.
	half, err := w.store.VolumePath("eu-west-1", "vol-00000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.service.Close(t.Context())
	again := reopen(w.service)
	defer again.Close(t.Context())
	w.books.Do(func() {
		if got := again.in("eu-west-1").Instances[id].State; got != Running {
			t.Errorf("closing the sandbox left the instance %s, want running", got)
		}
		if err := again.in("eu-west-1").resume(); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(half); err == nil {
		t.Error("half a volume was kept")
	}
	launched := func() (is bool) {
		w.books.Read(func() { is = again.runs.running[id] != nil && again.runs.running[id].machine != nil })
		return is
	}
	for deadline := time.Now().Add(time.Minute); !launched(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the instance does not run again")
		}
	}
}

// countBoots has an instance say at each boot which it is.
const countBoots = `cat > /etc/systemd/system/count.service <<'END'
[Unit]
Description=Count boots
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo boot >> /boots; echo this is boot $$(wc -l < /boots) > /dev/console'
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now count.service
`

func TestRealInstanceReboots(t *testing.T) {
	w, base := newRealWorld(t)
	id := w.script(base, countBoots)
	w.untilRunning(id)
	w.untilPrinted(id, "this is boot 1")
	before := w.describeInstance(id)
	if _, err := w.RebootInstances(t.Context(), &ec2.RebootInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	if got := w.describeInstance(id).State.Name; got != types.InstanceStateNameRunning {
		t.Errorf("while it reboots the instance is %s, want running", got)
	}
	w.untilPrinted(id, "this is boot 2")
	after := w.describeInstance(id)
	if *after.PrivateIpAddress != *before.PrivateIpAddress || aws.ToString(after.PublicIpAddress) != aws.ToString(before.PublicIpAddress) ||
		*after.BlockDeviceMappings[0].Ebs.VolumeId != *before.BlockDeviceMappings[0].Ebs.VolumeId || !after.LaunchTime.Equal(*before.LaunchTime) {
		t.Errorf("rebooted from %+v into %+v", before, after)
	}
}

func TestTerminatingAPendingRealInstanceLeavesNothing(t *testing.T) {
	w, base := newRealWorld(t)
	in := single(base)
	in.MinCount, in.MaxCount = aws.Int32(2), aws.Int32(2)
	ids := w.run(in)
	out, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids})
	if err != nil || out.TerminatingInstances[0].CurrentState.Name != types.InstanceStateNameShuttingDown {
		t.Fatalf("terminate gave %v, %v", out, err)
	}
	w.untilTerminated(ids...)
	if files := w.volumeFiles(); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
}

func TestInstanceThatPowersItselfOffIsTerminatedWhereItIsToBe(t *testing.T) {
	w, base := newRealWorld(t)
	in := single(base)
	in.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorTerminate
	in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\nsystemctl poweroff\n")))
	id := w.run(in)[0]
	for deadline := time.Now().Add(time.Minute); w.describeInstance(id).State.Name != types.InstanceStateNameTerminated; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the instance is %s", w.describeInstance(id).State.Name)
		}
	}
	if got := *w.describeInstance(id).StateReason.Code; got != "Client.InstanceInitiatedShutdown" {
		t.Errorf("it is terminated because of %s", got)
	}
	if files := w.volumeFiles(); len(files) > 0 {
		t.Errorf("it left %v", files)
	}
}
