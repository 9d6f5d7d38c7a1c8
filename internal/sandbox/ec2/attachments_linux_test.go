package ec2

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestVolumesOfARealInstanceAreItsDevices(t *testing.T) {
	w, base := newRealWorld(t)
	key := w.key("key", types.KeyTypeEd25519)
	in := single(base)
	in.KeyName, in.SecurityGroupIds = aws.String("key"), []string{w.securityGroup("ssh", 22, "0.0.0.0/0")}
	in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sdb"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1)}}}
	id := w.run(in)[0]
	w.untilRunning(id)
	address, volume := *w.describeInstance(id).PublicIpAddress, ""
	for _, device := range w.describeInstance(id).BlockDeviceMappings {
		if *device.DeviceName == "/dev/sdb" {
			volume = *device.Ebs.VolumeId
		}
	}
	state := func() types.Volume {
		out, err := w.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{volume}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Volumes[0]
	}

	w.ask(address, key, "sudo mkfs.ext4 -q /dev/sdb && sudo mount /dev/sdb /mnt && echo kept | sudo tee /mnt/file")
	_, err := w.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: &volume, Force: aws.Bool(true)})
	refused(t, err, "UnsupportedOperation")
	if _, err := w.DetachVolume(t.Context(), &ec2.DetachVolumeInput{VolumeId: &volume}); err != nil {
		t.Fatal(err)
	}
	if got := state(); got.State != types.VolumeStateInUse || got.Attachments[0].State != types.VolumeAttachmentStateDetaching {
		t.Errorf("while it is mounted it is %s, %+v", got.State, got.Attachments)
	}
	w.ask(address, key, "sudo umount /mnt")
	waiter := ec2.NewVolumeAvailableWaiter(w, func(o *ec2.VolumeAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, 100*impatient })
	if err := waiter.Wait(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{volume}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AttachVolume(t.Context(), &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: &id, Device: aws.String("/dev/sdf")}); err != nil {
		t.Fatal(err)
	}
	if got := w.ask(address, key, "test ! -e /dev/sdb && sudo mount /dev/sdf /mnt && cat /mnt/file"); got != "kept\n" {
		t.Errorf("the volume has %q at its next device", got)
	}
	if got := state(); got.Attachments[0].State != types.VolumeAttachmentStateAttached || *got.Attachments[0].Device != "/dev/sdf" {
		t.Errorf("attached again it is %+v", got.Attachments)
	}
}
