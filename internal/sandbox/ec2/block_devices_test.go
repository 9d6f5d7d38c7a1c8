package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestVolumeProportions(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		kind                   types.VolumeType
		size, iops, throughput int32
		code                   string
	}{
		"gp3's own IOPS on a small disk": {types.VolumeTypeGp3, 1, 3000, 125, ""},
		"gp3 with 500 IOPS a GiB":        {types.VolumeTypeGp3, 10, 5000, 0, ""},
		"gp3 with more":                  {types.VolumeTypeGp3, 10, 5001, 0, "InvalidParameterValue"},
		"gp3 with too few":               {types.VolumeTypeGp3, 10, 2999, 0, "InvalidParameterValue"},
		"gp3 with 0.25 MiB/s an IOPS":    {types.VolumeTypeGp3, 10, 0, 750, ""},
		"gp3 with a faster flow":         {types.VolumeTypeGp3, 10, 0, 751, "InvalidParameterValue"},
		"gp3 at its fastest":             {types.VolumeTypeGp3, 160, 80000, 2000, ""},
		"gp3 too fast":                   {types.VolumeTypeGp3, 160, 80001, 0, "InvalidParameterValue"},
		"io1 with 50 IOPS a GiB":         {types.VolumeTypeIo1, 10, 500, 0, ""},
		"io1 with more":                  {types.VolumeTypeIo1, 10, 501, 0, "InvalidParameterValue"},
		"io2 with 1000 IOPS a GiB":       {types.VolumeTypeIo2, 10, 10000, 0, ""},
		"io2 with more":                  {types.VolumeTypeIo2, 10, 10001, 0, "InvalidParameterValue"},
		"gp2 with IOPS":                  {types.VolumeTypeGp2, 10, 3000, 0, "InvalidParameterCombination"},
		"io1 with throughput":            {types.VolumeTypeIo1, 10, 500, 125, "InvalidParameterCombination"},
		"gp3 too big":                    {types.VolumeTypeGp3, 65537, 0, 0, "InvalidParameterValue"},
		"sc1 too small":                  {types.VolumeTypeSc1, 124, 0, 0, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-1a"), Size: &test.size, VolumeType: test.kind}
			if test.iops > 0 {
				in.Iops = &test.iops
			}
			if test.throughput > 0 {
				in.Throughput = &test.throughput
			}
			_, err := w.CreateVolume(t.Context(), in)
			if test.code != "" {
				refused(t, err, test.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDeviceNames(t *testing.T) {
	for name, want := range map[string]bool{
		"/dev/sda1": true, "/dev/sda": true, "/dev/sdf": true, "/dev/xvda": true, "/dev/xvdz": true, "/dev/xvdba": true, "xvdh": true, "sdh": true,
		"/dev/sdf1": false, "/dev/xvda1": false, "/dev/xvdea": false, "/dev/nvme0n1": false, "/dev/hda": false, "": false, "C:/dev/sda1": false,
	} {
		if deviceName.MatchString(name) != want {
			t.Errorf("%s is a device name: %v, want %v", name, !want, want)
		}
	}
}
