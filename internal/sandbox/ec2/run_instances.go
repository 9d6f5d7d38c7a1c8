package ec2

import (
	"maps"
	"net/netip"
	"strconv"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// launchTemplateSpecification names a launch template version.
type launchTemplateSpecification struct {
	launchTemplateRef
	Version string
}

type runInstancesInput struct {
	launchData
	ClientToken      string
	LaunchTemplate   *launchTemplateSpecification
	MaxCount         int `wire:",,required"`
	MinCount         int `wire:",,required"`
	PrivateIpAddress string
	SubnetId         string
}

func (r *region) runInstances(c *api.Call, in *runInstancesInput) (*reservationItem, error) {
	in.tidy()
	if in.MinCount < 1 || in.MaxCount < in.MinCount {
		return nil, fail("InvalidParameterValue", "Value (%d to %d) for parameters minCount and maxCount is invalid. Expected at least 1, and no more at the least than at the most.", in.MinCount, in.MaxCount)
	}
	c.On(r.arn("instance", "*"))
	if r.ranAndEnded(in.ClientToken) {
		return nil, fail("IdempotentInstanceTerminated", "The client token '%s' was used before for instances that have been terminated.", in.ClientToken)
	}
	return once(r, "RunInstances", in.ClientToken, in, func() (*reservationItem, error) {
		order := order{
			data: in.launchData, least: in.MinCount, count: in.MaxCount,
			subnetID: in.SubnetId, address: in.PrivateIpAddress, token: in.ClientToken,
		}
		if in.LaunchTemplate != nil {
			template, err := r.template(in.LaunchTemplate.launchTemplateRef)
			if err != nil {
				return nil, err
			}
			version, err := template.version(in.LaunchTemplate.Version)
			if err != nil {
				return nil, err
			}
			order.from(template, version)
		}
		planned, err := r.plan(order)
		if err != nil {
			return nil, err
		}
		needs(c, append(r.launching(planned), r.opening(planned)...))
		var items []instanceItem
		for _, i := range r.run(planned) {
			items = append(items, r.instanceItem(i))
		}
		return &reservations(items)[0], nil
	})
}

// ranAndEnded tells whether a client token ran instances of which one is
// terminated, for which RunInstances does not run others
// (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html).
func (r *region) ranAndEnded(token string) bool {
	if token == "" {
		return false
	}
	for _, i := range r.Instances {
		if i.ClientToken == token && i.ended() {
			return true
		}
	}
	return false
}

// order is an order for instances that are alike.
type order struct {
	data     launchData
	least    int  // how many instances at the least
	count    int  // and at the most
	fleet    bool // it is a fleet's or a group's, rather than RunInstances'
	subnetID string
	address  string
	token    string
	template *Template       // that data was completed from
	extra    tags            // onto the instances, over those of data; of AWS's own
	more     map[string]tags // onto each type of resource, over those of data
}

// from completes the order from a launch template version, and has the
// instances bear its name as AWS does
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/launch-instances-from-launch-template.html).
func (o *order) from(t *launchTemplate, v *launchTemplateVersion) {
	o.data = o.data.over(v.Data)
	o.template = &Template{ID: t.Id, Name: t.Name, Version: v.Number}
	extra := tags{"aws:ec2launchtemplate:id": t.Id, "aws:ec2launchtemplate:version": strconv.FormatInt(v.Number, 10)}
	maps.Copy(extra, o.extra)
	o.extra = extra
}

// run carries a plan out. It cannot fail any more.
func (r *region) run(p *plan) []*instance {
	r.service.shortages.take(r.name, p.pool(), p.count)
	reservation := api.NewID("r")
	p.image.Launched = r.now()
	ran := make([]*instance, 0, p.count)
	for n := range p.count {
		on, _ := p.tagged["instance"].with(p.extra) // checked by plan
		i := &instance{
			resource: r.newResource("i", on), State: Pending, Reason: whilePending, ReservationId: reservation, LaunchIndex: n, ClientToken: p.token,
			Launched: r.now(), ImageId: p.image.Id, Type: p.kind.Name, Architecture: p.image.Architecture,
			VirtualizationType: p.image.VirtualizationType, BootMode: p.image.BootMode, EnaSupport: p.image.EnaSupport,
			SriovNetSupport: p.image.SriovNetSupport, TpmSupport: p.image.TpmSupport, RootDeviceName: p.image.RootDeviceName,
			SubnetId: p.subnet.Id, Zone: p.subnet.Zone, Interface: r.newResource("eni", p.tagged["network-interface"]),
			SecurityGroupIds: p.groups, Metadata: p.options, Launch: p.data, Template: p.template,
		}
		i.Address = r.giveAddress(p)
		if i.lifecycle() == spotLifecycle {
			i.SpotRequest = r.newSpotRequest(p.tagged["spot-instances-request"])
		}
		for _, device := range p.devices {
			v := r.newVolume(device.volume, device.snapshotID, i.Zone, p.tagged["volume"])
			r.attach(v, i, device.name, device.deleteOnTermination)
		}
		r.Instances[i.Id] = i
		r.start(i)
		ran = append(ran, i)
	}
	return ran
}

func (r *region) giveAddress(p *plan) netip.Addr {
	wanted, err := netip.ParseAddr(p.address)
	if err != nil { // none is wanted
		return r.service.addresses.give(p.subnet.Cidr)
	}
	r.service.addresses.take(wanted, p.subnet.Cidr)
	return wanted
}
