package ec2

import (
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// PublicImage is an image of Amazon's that everybody may launch.
type PublicImage struct {
	Name, Description string
	Architecture      string // x86_64 or arm64
	SnapshotId        string // of the root volume; Amazon's, completed, and public
}

// baseLife is how long an Amazon Linux 2023 image is current
// (https://docs.aws.amazon.com/linux/al2023/ug/ec2.html).
const baseLife = 90 * 24 * time.Hour

// Publish registers an image as Amazon registers Amazon Linux 2023, and gives
// its id. The books must be held.
func (s *Service) Publish(regionName string, public PublicImage) (id string, err error) {
	r := s.in(regionName)
	root := r.snapshots()[public.SnapshotId]
	if root.Snapshot == nil {
		return "", fmt.Errorf("publish %s: there is no snapshot %s in %s", public.Name, public.SnapshotId, regionName)
	}
	ebs := ebsDevice{
		DeleteOnTermination: new(true), Encrypted: new(false), Iops: new(3000), SnapshotId: root.Id, Throughput: new(125),
		VolumeSize: new(root.VolumeSize), VolumeType: "gp3",
	}
	bootMode := "uefi-preferred"
	if public.Architecture == "arm64" {
		bootMode = "uefi"
	}
	made := &image{
		resource: r.newResource("ami", nil), Owner: api.Amazon, Name: public.Name, Description: public.Description,
		Architecture: public.Architecture, VirtualizationType: "hvm", RootDeviceName: "/dev/xvda",
		BlockDevices: []blockDevice{{DeviceName: "/dev/xvda", Ebs: &ebs}}, BootMode: bootMode, EnaSupport: true,
		ImdsSupport: "v2.0", SriovNetSupport: "simple", State: imageAvailable,
		Permissions: []launchPermission{{Group: "all"}}, Deprecated: r.now().Add(baseLife),
	}
	r.Images[made.Id] = made
	return made.Id, nil
}
