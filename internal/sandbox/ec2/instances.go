package ec2

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// instance is an EC2 instance.
type instance struct {
	resource
	State         InstanceState
	Reason        *stateReason `json:",omitempty"` // why it is stopped or terminated
	Transition    string       `json:",omitempty"` // the same, as a sentence with the time
	ReservationId string
	LaunchIndex   int    // in the reservation
	ClientToken   string `json:",omitempty"`
	Launched      time.Time
	Ready         time.Time // when it last came to be running
	Ended         time.Time // when it was terminated

	ImageId            string
	Type               string
	Architecture       string
	VirtualizationType string
	BootMode           string
	EnaSupport         bool
	SriovNetSupport    string `json:",omitempty"`
	TpmSupport         string `json:",omitempty"`
	RootDeviceName     string

	SubnetId         string
	Zone             string
	Address          netip.Addr
	PublicAddress    netip.Addr `json:",omitzero"` // none while it is stopped
	Interface        resource
	SpotRequest      *resource `json:",omitempty"` // of a Spot Instance
	SecurityGroupIds []string
	Volumes          []string
	PushedKeys       []pushedKey `json:",omitempty"`
	Metadata         metadataOptions
	Launch           launchData // everything else that was asked for
	Template         *Template  `json:",omitempty"`
}

// stateCodes are the numbers of the states
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html).
var stateCodes = map[InstanceState]int{Pending: 0, Running: 16, ShuttingDown: 32, Terminated: 48, Stopping: 64, Stopped: 80}

type instanceState struct {
	Code int
	Name string
}

func (s InstanceState) item() instanceState { return instanceState{stateCodes[s], string(s)} }

func (r *region) instance(id string) (*instance, error) {
	if err := wellFormed(id, "i", "InvalidInstanceID.Malformed"); err != nil {
		return nil, err
	}
	if found, ok := seen(r.Instances, id); ok {
		return found, nil
	}
	return nil, fail("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
}

// instances finds all of the ids or none.
func (r *region) instances(ids []string) ([]*instance, error) {
	var found []*instance
	var lacking []string
	for _, id := range ids {
		if err := wellFormed(id, "i", "InvalidInstanceID.Malformed"); err != nil {
			return nil, err
		}
		if i, ok := seen(r.Instances, id); ok {
			found = append(found, i)
		} else {
			lacking = append(lacking, id)
		}
	}
	switch len(lacking) {
	case 0:
		return found, nil
	case 1:
		return nil, fail("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", lacking[0])
	}
	return nil, fail("InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist", strings.Join(lacking, ", "))
}

// ended tells whether the instance has given back what it had.
func (i *instance) ended() bool { return i.State == Terminated }

// hostname is the private DNS name of an address.
func (r *region) hostname(of netip.Addr) string {
	domain := r.name + ".compute.internal"
	if r.name == "us-east-1" {
		domain = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(of.String(), ".", "-") + "." + domain
}

// instanceItem is an instance on the wire.
type instanceItem struct {
	AmiLaunchIndex                   int
	Architecture                     string
	BlockDeviceMappings              []instanceDevice `wire:",blockDeviceMapping"`
	BootMode                         string
	CapacityReservationSpecification *capacityReservationSpecification
	ClientToken                      string
	CpuOptions                       *cpuOptions
	CurrentInstanceBootMode          string
	EbsOptimized                     bool
	EnaSupport                       bool
	EnclaveOptions                   *enclaveOptions
	HibernationOptions               *hibernationOptions
	Hypervisor                       string
	IamInstanceProfile               *instanceProfileItem
	ImageId                          string
	InstanceId                       string
	InstanceLifecycle                string
	InstanceType                     string
	KeyName                          string
	LaunchTime                       time.Time
	MaintenanceOptions               *maintenanceOptions
	MetadataOptions                  *metadataOptionsItem
	Monitoring                       monitoringState
	NetworkInterfaces                []interfaceItem `wire:",networkInterfaceSet"`
	Placement                        placement
	PlatformDetails                  string
	PrivateDnsName                   string
	PrivateDnsNameOptions            *privateDnsNameOptions
	PrivateIpAddress                 string
	PublicDnsName                    string `wire:",dnsName"`
	PublicIpAddress                  string `wire:",ipAddress"`
	RootDeviceName                   string
	RootDeviceType                   string
	SecurityGroups                   []groupItem `wire:",groupSet"`
	SourceDestCheck                  *bool
	SpotInstanceRequestId            string
	SriovNetSupport                  string
	State                            instanceState `wire:",instanceState"`
	StateReason                      *stateReason
	StateTransitionReason            *string `wire:",reason"`
	SubnetId                         string
	Tags                             []tag `wire:",tagSet"`
	TpmSupport                       string
	UsageOperation                   string
	VirtualizationType               string
	VpcId                            string

	reservation string
}

type instanceDevice struct {
	DeviceName string
	Ebs        struct {
		AttachTime          time.Time
		DeleteOnTermination bool
		Status              string
		VolumeId            string
	}
}

type instanceProfileItem struct{ Arn, Id string }

type metadataOptionsItem struct {
	metadataOptions
	State string
}

type monitoringState struct{ State string }

type groupItem struct{ GroupId, GroupName string }

// interfaceItem is the network interface of an instance on the wire.
type interfaceItem struct {
	Association *association
	Attachment  struct {
		AttachTime          time.Time
		AttachmentId        string
		DeleteOnTermination bool
		DeviceIndex         int
		NetworkCardIndex    int
		Status              string
	}
	Description        string
	Groups             []groupItem `wire:",groupSet"`
	InterfaceType      string
	MacAddress         string
	NetworkInterfaceId string
	OwnerId            string
	PrivateDnsName     string
	PrivateIpAddress   string
	PrivateIpAddresses []interfaceAddress `wire:",privateIpAddressesSet"`
	SourceDestCheck    bool
	Status             string
	SubnetId           string
	VpcId              string
}

type interfaceAddress struct {
	Association      *association
	Primary          bool
	PrivateDnsName   string
	PrivateIpAddress string
}

func (r *region) instanceItem(i *instance) instanceItem {
	it := instanceItem{
		AmiLaunchIndex: i.LaunchIndex, Architecture: i.Architecture, BlockDeviceMappings: r.deviceItems(i), BootMode: i.BootMode,
		CapacityReservationSpecification: i.Launch.CapacityReservationSpecification, ClientToken: i.ClientToken,
		CpuOptions: i.Launch.CpuOptions, EbsOptimized: orZero(i.Launch.EbsOptimized), EnaSupport: i.EnaSupport,
		EnclaveOptions: i.Launch.EnclaveOptions, HibernationOptions: i.Launch.HibernationOptions, Hypervisor: "xen",
		ImageId: i.ImageId, InstanceId: i.Id, InstanceType: i.Type, KeyName: i.Launch.KeyName, LaunchTime: i.Launched,
		MaintenanceOptions: i.Launch.MaintenanceOptions, Monitoring: monitoringState{"disabled"},
		Placement:       i.placement(r.Subnets[i.SubnetId]),
		PlatformDetails: "Linux/UNIX", PrivateDnsNameOptions: i.Launch.PrivateDnsNameOptions, RootDeviceName: i.RootDeviceName,
		RootDeviceType: "ebs", SriovNetSupport: i.SriovNetSupport, State: i.State.item(), StateReason: i.Reason,
		StateTransitionReason: new(i.Transition), Tags: i.Tags.wire(), TpmSupport: i.TpmSupport, UsageOperation: "RunInstances",
		VirtualizationType: i.VirtualizationType, reservation: i.ReservationId,
	}
	if i.SpotRequest != nil {
		it.InstanceLifecycle, it.SpotInstanceRequestId = spotLifecycle, i.SpotRequest.Id
	}
	if i.Launch.Monitoring != nil && orZero(i.Launch.Monitoring.Enabled) {
		it.Monitoring.State = "enabled"
	}
	if profile := i.Launch.IamInstanceProfile; profile != nil {
		it.IamInstanceProfile = &instanceProfileItem{profile.arn(), "AIPA" + strings.ToUpper(i.Id[len(i.Id)-16:])}
	}
	it.MetadataOptions = &metadataOptionsItem{i.Metadata, "applied"}
	if i.ended() {
		return it // what it had is gone, and no longer shown
	}
	if i.State != Stopped && i.State != Pending {
		it.CurrentInstanceBootMode = instanceTypes[i.Type].boots(i.BootMode)
	}
	it.PrivateDnsName, it.PrivateIpAddress = r.hostname(i.Address), i.Address.String()
	it.PublicDnsName, it.PublicIpAddress = i.publicAddress(), i.publicAddress()
	it.SubnetId, it.VpcId, it.SourceDestCheck = i.SubnetId, r.Vpc.Id, new(true)
	it.SecurityGroups = r.groupItems(i.SecurityGroupIds)
	it.NetworkInterfaces = []interfaceItem{r.interfaceItem(i, it.SecurityGroups)}
	return it
}

// placement tells where the instance was run.
func (i *instance) placement(in *subnet) placement {
	at := placement{AvailabilityZone: i.Zone, Tenancy: "default"}
	if in != nil {
		at.AvailabilityZoneId = in.ZoneId
	}
	if asked := i.Launch.Placement; asked != nil && asked.Tenancy != "" {
		at.Tenancy = asked.Tenancy
	}
	return at
}

func (r *region) deviceItems(i *instance) []instanceDevice {
	items := []instanceDevice{}
	for _, id := range i.Volumes {
		v := r.Volumes[id]
		if v == nil || v.Attachment == nil {
			continue
		}
		item := instanceDevice{DeviceName: v.Attachment.Device}
		item.Ebs.AttachTime, item.Ebs.DeleteOnTermination = v.Attachment.At, v.Attachment.DeleteOnTermination
		item.Ebs.Status, item.Ebs.VolumeId = "attached", id
		items = append(items, item)
	}
	return items
}

func (r *region) groupItems(ids []string) []groupItem {
	var items []groupItem
	for _, id := range ids {
		item := groupItem{GroupId: id}
		if group := r.SecurityGroups[id]; group != nil {
			item.GroupName = group.Name
		}
		items = append(items, item)
	}
	return items
}

func (r *region) interfaceItem(i *instance, groups []groupItem) interfaceItem {
	name := r.hostname(i.Address)
	it := interfaceItem{
		Association: i.association(), Groups: groups, InterfaceType: "interface", MacAddress: macOf(i.Address), NetworkInterfaceId: i.Interface.Id, OwnerId: api.Account,
		PrivateDnsName: name, PrivateIpAddress: i.Address.String(), PrivateIpAddresses: []interfaceAddress{{i.association(), true, name, i.Address.String()}},
		SourceDestCheck: true, Status: "in-use", SubnetId: i.SubnetId, VpcId: r.Vpc.Id,
	}
	it.Attachment.AttachTime, it.Attachment.AttachmentId = i.Created, strings.Replace(i.Interface.Id, "eni-", "eni-attach-", 1)
	it.Attachment.DeleteOnTermination, it.Attachment.Status = true, "attached"
	if len(i.Launch.NetworkInterfaces) > 0 {
		it.Description = i.Launch.NetworkInterfaces[0].Description
	}
	return it
}

// macOf is the hardware address of an address: locally administered, as EC2's
// are.
func macOf(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// arn names an instance profile, whether it was given by ARN or by name.
func (p *iamInstanceProfile) arn() string {
	switch {
	case p == nil:
		return ""
	case p.Arn != "":
		return p.Arn
	}
	return "arn:aws:iam::" + api.Account + ":instance-profile/" + p.Name
}

type reservationItem struct {
	Instances     []instanceItem `wire:",instancesSet"`
	OwnerId       string
	ReservationId string
}

type describeInstancesInput struct {
	paging
	Filters     []filter `wire:"Filter"`
	InstanceIds []string `wire:"InstanceId"`
}

type describeInstancesOutput struct {
	NextToken    string
	Reservations []reservationItem `wire:",reservationSet"`
}

var instanceFilters = filterable[instanceItem]{
	values: map[string]func(instanceItem) []string{
		"architecture":         func(i instanceItem) []string { return []string{i.Architecture} },
		"availability-zone-id": func(i instanceItem) []string { return one(i.Placement.AvailabilityZoneId) },
		"availability-zone":    func(i instanceItem) []string { return []string{i.Placement.AvailabilityZone} },
		"block-device-mapping.delete-on-termination": func(i instanceItem) []string {
			return i.devices(func(d instanceDevice) string { return truth(d.Ebs.DeleteOnTermination)[0] })
		},
		"block-device-mapping.device-name": func(i instanceItem) []string {
			return i.devices(func(d instanceDevice) string { return d.DeviceName })
		},
		"block-device-mapping.status": func(i instanceItem) []string {
			return i.devices(func(d instanceDevice) string { return d.Ebs.Status })
		},
		"block-device-mapping.volume-id": func(i instanceItem) []string {
			return i.devices(func(d instanceDevice) string { return d.Ebs.VolumeId })
		},
		"boot-mode":                  func(i instanceItem) []string { return one(i.BootMode) },
		"client-token":               func(i instanceItem) []string { return one(i.ClientToken) },
		"dns-name":                   func(i instanceItem) []string { return one(i.PublicDnsName) },
		"current-instance-boot-mode": func(i instanceItem) []string { return one(i.CurrentInstanceBootMode) },
		"ebs-optimized":              func(i instanceItem) []string { return truth(i.EbsOptimized) },
		"ena-support":                func(i instanceItem) []string { return truth(i.EnaSupport) },
		"hypervisor":                 func(i instanceItem) []string { return []string{i.Hypervisor} },
		"iam-instance-profile.arn":   func(i instanceItem) []string { return i.profile(func(p *instanceProfileItem) string { return p.Arn }) },
		"iam-instance-profile.id":    func(i instanceItem) []string { return i.profile(func(p *instanceProfileItem) string { return p.Id }) },
		"image-id":                   func(i instanceItem) []string { return []string{i.ImageId} },
		"instance-id":                func(i instanceItem) []string { return []string{i.InstanceId} },
		"instance-lifecycle":         func(i instanceItem) []string { return one(i.InstanceLifecycle) },
		"instance-state-code":        func(i instanceItem) []string { return []string{fmt.Sprint(i.State.Code)} },
		"instance-state-name":        func(i instanceItem) []string { return []string{i.State.Name} },
		"instance-type":              func(i instanceItem) []string { return []string{i.InstanceType} },
		"instance.group-id":          func(i instanceItem) []string { return i.groups(func(g groupItem) string { return g.GroupId }) },
		"instance.group-name":        func(i instanceItem) []string { return i.groups(func(g groupItem) string { return g.GroupName }) },
		"ip-address":                 func(i instanceItem) []string { return one(i.PublicIpAddress) },
		"key-name":                   func(i instanceItem) []string { return one(i.KeyName) },
		"launch-index":               func(i instanceItem) []string { return []string{fmt.Sprint(i.AmiLaunchIndex)} },
		"launch-time":                func(i instanceItem) []string { return []string{stamp(i.LaunchTime)} },
		"monitoring-state":           func(i instanceItem) []string { return []string{i.Monitoring.State} },
		"network-interface.group-id": func(i instanceItem) []string { return i.groups(func(g groupItem) string { return g.GroupId }) },
		"network-interface.network-interface-id": func(i instanceItem) []string {
			return i.interfaces(func(n interfaceItem) string { return n.NetworkInterfaceId })
		},
		"network-interface.private-ip-address": func(i instanceItem) []string {
			return i.interfaces(func(n interfaceItem) string { return n.PrivateIpAddress })
		},
		"network-interface.addresses.private-ip-address": func(i instanceItem) []string {
			return i.interfaces(func(n interfaceItem) string { return n.PrivateIpAddress })
		},
		"network-interface.subnet-id": func(i instanceItem) []string { return i.interfaces(func(n interfaceItem) string { return n.SubnetId }) },
		"network-interface.vpc-id":    func(i instanceItem) []string { return i.interfaces(func(n interfaceItem) string { return n.VpcId }) },
		"owner-id":                    func(instanceItem) []string { return []string{api.Account} },
		"platform":                    func(instanceItem) []string { return nil }, // only Windows has one
		"platform-details":            func(i instanceItem) []string { return []string{i.PlatformDetails} },
		"private-dns-name":            func(i instanceItem) []string { return one(i.PrivateDnsName) },
		"private-ip-address":          func(i instanceItem) []string { return one(i.PrivateIpAddress) },
		"reason":                      func(i instanceItem) []string { return one(orZero(i.StateTransitionReason)) },
		"reservation-id":              func(i instanceItem) []string { return []string{i.reservation} },
		"root-device-name":            func(i instanceItem) []string { return []string{i.RootDeviceName} },
		"root-device-type":            func(i instanceItem) []string { return []string{i.RootDeviceType} },
		"source-dest-check":           func(i instanceItem) []string { return truth(orZero(i.SourceDestCheck)) },
		"spot-instance-request-id":    func(i instanceItem) []string { return one(i.SpotInstanceRequestId) },
		"state-reason-code":           func(i instanceItem) []string { return one(orZero(i.StateReason).Code) },
		"state-reason-message":        func(i instanceItem) []string { return one(orZero(i.StateReason).Message) },
		"subnet-id":                   func(i instanceItem) []string { return one(i.SubnetId) },
		"tenancy":                     func(i instanceItem) []string { return one(i.Placement.Tenancy) },
		"tpm-support":                 func(i instanceItem) []string { return one(i.TpmSupport) },
		"usage-operation":             func(i instanceItem) []string { return []string{i.UsageOperation} },
		"virtualization-type":         func(i instanceItem) []string { return []string{i.VirtualizationType} },
		"vpc-id":                      func(i instanceItem) []string { return one(i.VpcId) },
		"metadata-options.http-put-response-hop-limit": func(i instanceItem) []string { return number(i.MetadataOptions.HttpPutResponseHopLimit) },
		"metadata-options.instance-metadata-tags":      func(i instanceItem) []string { return one(i.MetadataOptions.InstanceMetadataTags) },
		"metadata-options.http-tokens":                 func(i instanceItem) []string { return one(i.MetadataOptions.HttpTokens) },
		"metadata-options.http-endpoint":               func(i instanceItem) []string { return one(i.MetadataOptions.HttpEndpoint) },
	},
	tags: func(i instanceItem) tags { return tagMap(i.Tags) },
}

func (i instanceItem) devices(of func(instanceDevice) string) []string {
	var values []string
	for _, device := range i.BlockDeviceMappings {
		values = append(values, of(device))
	}
	return values
}

func (i instanceItem) interfaces(of func(interfaceItem) string) []string {
	var values []string
	for _, one := range i.NetworkInterfaces {
		values = append(values, of(one))
	}
	return values
}

func (i instanceItem) profile(of func(*instanceProfileItem) string) []string {
	if i.IamInstanceProfile == nil {
		return nil
	}
	return []string{of(i.IamInstanceProfile)}
}

func (i instanceItem) groups(of func(groupItem) string) []string {
	var values []string
	for _, group := range i.SecurityGroups {
		values = append(values, of(group))
	}
	return values
}

func (r *region) describeInstances(_ *api.Call, in *describeInstancesInput) (*describeInstancesOutput, error) {
	if err := in.noPageWith(in.InstanceIds, "instancesSet"); err != nil {
		return nil, err
	}
	if _, err := r.instances(in.InstanceIds); err != nil {
		return nil, err
	}
	candidates := r.Instances
	if len(in.InstanceIds) > 0 { // so that asking for one of ten thousand costs little
		candidates = map[string]*instance{}
		for _, id := range in.InstanceIds {
			candidates[id] = r.Instances[id]
		}
	}
	found, next, err := describe(ordered(candidates), in.InstanceIds, r.instanceItem, instanceFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeInstancesOutput{next, reservations(found)}, err
}

// reservations puts together the instances that were run together, in the
// order of the first of each.
func reservations(items []instanceItem) []reservationItem {
	at := map[string]int{}
	var all []reservationItem
	for _, it := range items {
		n, known := at[it.reservation]
		if !known {
			n = len(all)
			at[it.reservation] = n
			all = append(all, reservationItem{OwnerId: api.Account, ReservationId: it.reservation})
		}
		all[n].Instances = append(all[n].Instances, it)
	}
	return all
}
