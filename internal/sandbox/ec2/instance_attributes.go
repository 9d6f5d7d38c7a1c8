package ec2

import (
	"cmp"
	"encoding/base64"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

type booleanValue struct{ Value bool }

type blobValue struct{ Value []byte }

// modifyInstanceAttributeInput changes one attribute of an instance.
type modifyInstanceAttributeInput struct {
	DisableApiStop                    *booleanValue
	DisableApiTermination             *booleanValue
	EbsOptimized                      *booleanValue
	EnaSupport                        *booleanValue
	Groups                            []string `wire:"GroupId"`
	InstanceId                        string   `wire:",,required"`
	InstanceInitiatedShutdownBehavior *attributeValue
	InstanceType                      *attributeValue
	SriovNetSupport                   *attributeValue
	UserData                          *blobValue
}

func (r *region) modifyInstanceAttribute(c *api.Call, in *modifyInstanceAttributeInput) (*succeeded, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	if i.State == Terminated || i.State == ShuttingDown {
		return nil, fail("IncorrectInstanceState", "The instance '%s' is '%s'.", i.Id, i.State)
	}
	stopped := func() error {
		if i.State != Stopped {
			return fail("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", i.Id)
		}
		return nil
	}
	given, err := 0, error(nil)
	change := func(is bool, apply func() error) {
		if is && err == nil {
			given++
			err = apply()
		}
	}
	next := *i
	change(in.DisableApiStop != nil, func() error { next.Launch.DisableApiStop = &in.DisableApiStop.Value; return nil })
	change(in.DisableApiTermination != nil, func() error { next.Launch.DisableApiTermination = &in.DisableApiTermination.Value; return nil })
	change(in.EbsOptimized != nil, func() error { next.Launch.EbsOptimized = &in.EbsOptimized.Value; return stopped() })
	change(in.EnaSupport != nil, func() error { next.EnaSupport = in.EnaSupport.Value; return stopped() })
	change(in.Groups != nil, func() error { next.SecurityGroupIds = in.Groups; return r.allGroups(in.Groups) })
	change(in.InstanceInitiatedShutdownBehavior != nil, func() error {
		next.Launch.InstanceInitiatedShutdownBehavior = in.InstanceInitiatedShutdownBehavior.Value
		return next.Launch.check(launchTaggable...)
	})
	change(in.InstanceType != nil, func() error { next.Type = in.InstanceType.Value; return cmp.Or(stopped(), next.fitsType()) })
	change(in.SriovNetSupport != nil, func() error { next.SriovNetSupport = in.SriovNetSupport.Value; return stopped() })
	change(in.UserData != nil, func() error {
		next.Launch.UserData = base64.StdEncoding.EncodeToString(in.UserData.Value)
		return cmp.Or(stopped(), next.Launch.check(launchTaggable...))
	})
	switch {
	case err != nil:
		return nil, err
	case given == 0:
		return nil, fail("MissingParameter", "No attributes specified.")
	case given > 1:
		return nil, fail("InvalidParameterCombination", "Fields for multiple attribute types specified.")
	}
	*i = next
	r.service.enforce()
	return &succeeded{true}, nil
}

func (r *region) allGroups(ids []string) error {
	for _, id := range ids {
		if _, err := r.securityGroup(id); err != nil {
			return err
		}
	}
	return nil
}

// fitsType refuses a type that the instance could not be started on.
func (i *instance) fitsType() error {
	kind := instanceTypes[i.Type]
	if kind == nil {
		return fail("InvalidInstanceAttributeValue", "Invalid value '%s' for InstanceType.", i.Type)
	}
	return kind.fits(&image{
		Architecture: i.Architecture, VirtualizationType: i.VirtualizationType, BootMode: i.BootMode,
		EnaSupport: i.EnaSupport, TpmSupport: i.TpmSupport,
	})
}

type modifyInstanceMetadataOptionsInput struct {
	metadataOptions
	InstanceId string `wire:",,required"`
}

type modifyInstanceMetadataOptionsOutput struct {
	InstanceId              string
	InstanceMetadataOptions metadataOptionsItem
}

func (r *region) modifyInstanceMetadataOptions(c *api.Call, in *modifyInstanceMetadataOptionsInput) (*modifyInstanceMetadataOptionsOutput, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	if i.State != Running && i.State != Stopped {
		return nil, fail("IncorrectInstanceState", "The instance '%s' is '%s'.", i.Id, i.State)
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	options := i.Metadata
	options.set(in.metadataOptions)
	if err := i.Tags.fitMetadata(options); err != nil {
		return nil, err
	}
	i.Metadata = options
	return &modifyInstanceMetadataOptionsOutput{i.Id, metadataOptionsItem{options, "pending"}}, nil
}

type getConsoleOutputInput struct {
	InstanceId string `wire:",,required"`
	Latest     bool
}

type getConsoleOutputOutput struct {
	InstanceId string
	Output     []byte
	Timestamp  time.Time
}

// getConsoleOutput gives what the machine printed last, at once, whether the
// latest is asked for or not.
func (r *region) getConsoleOutput(c *api.Call, in *getConsoleOutputInput) (*getConsoleOutputOutput, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	out := &getConsoleOutputOutput{InstanceId: i.Id, Output: []byte{}, Timestamp: r.now()}
	if console := r.service.runs.consoles[i.Id]; console != nil {
		out.Output, out.Timestamp = console.read()
	}
	return out, nil
}
