package autoscaling

import (
	"context"
	"errors"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ec2"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// fleet is EC2 as the engine wants it.
type fleet struct{ ec2 ec2.Fleet }

func (f fleet) Template(ref group.TemplateRef, instanceType string) (group.Template, error) {
	t, err := f.ec2.Template(refOf(ref), instanceType)
	return templateOf(t), said(err)
}

func (f fleet) Launch(ctx context.Context, o group.Order) ([]group.Launched, error) {
	members, err := f.ec2.Launch(ctx, ec2.LaunchOrder{
		Template:     refOf(o.Template),
		Count:        o.Count,
		SubnetID:     o.Subnet,
		InstanceType: o.InstanceType,
		Tags:         o.Tags,
	})
	if err != nil {
		return nil, said(err)
	}
	launched := make([]group.Launched, len(members))
	for i, m := range members {
		launched[i] = group.Launched{ID: m.ID, Zone: m.Zone, Type: m.InstanceType, Template: templateOf(m.Template)}
	}
	return launched, nil
}

func (f fleet) Terminate(ctx context.Context, id string) error {
	return said(f.ec2.Terminate(ctx, id))
}

func (f fleet) State(id string) string {
	m, ok := f.ec2.Member(id)
	if !ok {
		return string(ec2.Terminated)
	}
	return string(m.State)
}

// refOf names a launch template to EC2, which wants its id or its name alone.
func refOf(ref group.TemplateRef) ec2.TemplateRef {
	if ref.ID != "" {
		ref.Name = ""
	}
	return ec2.TemplateRef(ref)
}

func templateOf(t ec2.Template) group.Template {
	return group.Template{
		ID: t.ID, Name: t.Name, Version: t.Version, InstanceType: t.InstanceType,
		FromSSM: t.FromSSM, Permissions: t.Permissions,
	}
}

// said is an error of EC2's without its code, as activities and Auto Scaling's
// own errors quote it.
func said(err error) error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}
