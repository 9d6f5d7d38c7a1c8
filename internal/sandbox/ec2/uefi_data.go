package ec2

import "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"

type getInstanceUefiDataInput struct {
	InstanceId string `wire:",,required"`
}

type getInstanceUefiDataOutput struct {
	InstanceId string
	UefiData   string
}

// getInstanceUefiData gives the UEFI variables of an instance that boots by UEFI:
// those of its image, because machines here have no firmware that could change
// them.
func (r *region) getInstanceUefiData(c *api.Call, in *getInstanceUefiDataInput) (*getInstanceUefiDataOutput, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	if boots := instanceTypes[i.Type].boots(i.BootMode); boots != "uefi" {
		return nil, fail("UnsupportedOperation", "The instance %s boots in the mode %s and has no UEFI data", i.Id, boots)
	}
	out := &getInstanceUefiDataOutput{InstanceId: i.Id}
	if image := r.Images[i.ImageId]; image != nil {
		out.UefiData = image.UefiData
	}
	return out, nil
}
