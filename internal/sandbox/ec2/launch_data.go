package ec2

import (
	"encoding/base64"
	"reflect"
	"slices"
)

// launchData says how an instance is to be: what a launch template holds and
// what RunInstances is given, whose parameters are the same. A parameter that
// is absent is the zero value, and is not saved: there may be ten thousand
// instances, each with its own. CPU credits, threads and the like are kept and
// shown; they change nothing here.
type launchData struct {
	BlockDeviceMappings               []blockDevice                     `wire:"BlockDeviceMapping,blockDeviceMappingSet" json:",omitzero"`
	CapacityReservationSpecification  *capacityReservationSpecification `json:",omitzero"`
	CpuOptions                        *cpuOptions                       `json:",omitzero"`
	CreditSpecification               *creditSpecification              `json:",omitzero"`
	DisableApiStop                    *bool                             `json:",omitzero"`
	DisableApiTermination             *bool                             `json:",omitzero"`
	EbsOptimized                      *bool                             `json:",omitzero"`
	EnclaveOptions                    *enclaveOptions                   `json:",omitzero"`
	HibernationOptions                *hibernationOptions               `json:",omitzero"`
	IamInstanceProfile                *iamInstanceProfile               `json:",omitzero"`
	ImageId                           string                            `json:",omitzero"`
	InstanceInitiatedShutdownBehavior string                            `json:",omitzero"`
	InstanceMarketOptions             *marketOptions                    `json:",omitzero"`
	InstanceType                      string                            `json:",omitzero"`
	KeyName                           string                            `json:",omitzero"`
	MaintenanceOptions                *maintenanceOptions               `json:",omitzero"`
	MetadataOptions                   *metadataOptions                  `json:",omitzero"`
	Monitoring                        *monitoring                       `json:",omitzero"`
	NetworkInterfaces                 []networkInterface                `wire:"NetworkInterface,networkInterfaceSet" json:",omitzero"`
	Placement                         *placement                        `json:",omitzero"`
	PrivateDnsNameOptions             *privateDnsNameOptions            `json:",omitzero"`
	SecurityGroupIds                  []string                          `wire:"SecurityGroupId,securityGroupIdSet" json:",omitzero"`
	SecurityGroups                    []string                          `wire:"SecurityGroup,securityGroupSet" json:",omitzero"`
	TagSpecifications                 []tagSpecification                `wire:"TagSpecification,tagSpecificationSet" json:",omitzero"`
	UserData                          string                            `json:",omitzero"`
}

type capacityReservationSpecification struct {
	CapacityReservationPreference string
	CapacityReservationTarget     *struct {
		CapacityReservationId               string
		CapacityReservationResourceGroupArn string
	}
}

type cpuOptions struct {
	AmdSevSnp      string
	CoreCount      *int
	ThreadsPerCore *int
}

type creditSpecification struct{ CpuCredits string }

type enclaveOptions struct{ Enabled *bool }

type hibernationOptions struct{ Configured *bool }

type iamInstanceProfile struct{ Arn, Name string }

type maintenanceOptions struct{ AutoRecovery string }

// metadataOptions are the options of an instance's metadata service.
type metadataOptions struct {
	HttpEndpoint            string
	HttpProtocolIpv6        string
	HttpPutResponseHopLimit *int
	HttpTokens              string
	InstanceMetadataTags    string
}

type monitoring struct{ Enabled *bool }

// networkInterface is the only network interface of an instance.
type networkInterface struct {
	AssociatePublicIpAddress *bool
	DeleteOnTermination      *bool
	Description              string
	DeviceIndex              *int
	Groups                   []string `wire:"SecurityGroupId,groupSet>groupId"`
	InterfaceType            string
	NetworkCardIndex         *int
	PrivateIpAddress         string
	SubnetId                 string
}

type placement struct {
	Affinity             string
	AvailabilityZone     string
	AvailabilityZoneId   string
	GroupId              string
	GroupName            string
	HostId               string
	HostResourceGroupArn string
	PartitionNumber      *int
	SpreadDomain         string
	Tenancy              string
}

type privateDnsNameOptions struct {
	EnableResourceNameDnsAAAARecord *bool
	EnableResourceNameDnsARecord    *bool
	HostnameType                    string
}

// over gives the data with each parameter that d has, and base's for the
// others: a parameter is replaced as a whole, never merged
// (CreateLaunchTemplateVersion, RunInstances: "override the same parameters").
func (d launchData) over(base launchData) launchData {
	given, merged := reflect.ValueOf(d), reflect.ValueOf(&base).Elem()
	for i := range given.NumField() {
		if field := given.Field(i); !field.IsZero() {
			merged.Field(i).Set(field)
		}
	}
	return base
}

// inherited gives the data as a new version takes it over: "Snapshots applied
// to the block device mapping are ignored when creating a new version unless
// they are explicitly included" (CreateLaunchTemplateVersion, SourceVersion).
func (d launchData) inherited() launchData {
	d.BlockDeviceMappings = slices.Clone(d.BlockDeviceMappings)
	for i, device := range d.BlockDeviceMappings {
		if device.Ebs != nil {
			ebs := *device.Ebs
			ebs.SnapshotId = ""
			d.BlockDeviceMappings[i].Ebs = &ebs
		}
	}
	return d
}

// tidy drops the structures that say nothing, which clients send that know no
// difference between an empty parameter and none.
func (d *launchData) tidy() {
	all := reflect.ValueOf(d).Elem()
	for i := range all.NumField() {
		if field := all.Field(i); field.Kind() == reflect.Pointer && !field.IsNil() && field.Elem().IsZero() && field.Elem().Kind() == reflect.Struct {
			field.SetZero()
		}
	}
}

// maxUserData is how long user data may be before it is encoded.
const maxUserData = 16 << 10

// check refuses what is wrong whatever is launched from it. Whether the things
// named exist is only asked when an instance is run, as on AWS.
func (d launchData) check(taggable ...string) error {
	if _, err := d.userData(); err != nil {
		return err
	}
	if _, err := specified(d.TagSpecifications, taggable...); err != nil {
		return err
	}
	if err := d.MetadataOptions.check(); err != nil {
		return err
	}
	if err := d.InstanceMarketOptions.check(); err != nil {
		return err
	}
	if d.InstanceType != "" && instanceTypes[d.InstanceType] == nil {
		return fail("InvalidParameterValue", "Invalid value '%s' for InstanceType.", d.InstanceType)
	}
	if behavior := d.InstanceInitiatedShutdownBehavior; !slices.Contains([]string{"", "stop", "terminate"}, behavior) {
		return fail("InvalidParameterValue", "Value (%s) for parameter instanceInitiatedShutdownBehavior is invalid. Expected 'stop' or 'terminate'.", behavior)
	}
	return checkDevices(d.BlockDeviceMappings)
}

var errMalformedUserData = fail("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")

func (d launchData) userData() ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(d.UserData)
	if err != nil {
		return nil, errMalformedUserData
	}
	if len(raw) > maxUserData {
		return nil, fail("InvalidParameterValue", "User data is limited to %d bytes", maxUserData)
	}
	return raw, nil
}

func (o *metadataOptions) check() error {
	if o == nil {
		return nil
	}
	for _, option := range []struct {
		name, value string
		allowed     []string
	}{
		{"HttpEndpoint", o.HttpEndpoint, []string{"enabled", "disabled"}},
		{"HttpProtocolIpv6", o.HttpProtocolIpv6, []string{"enabled", "disabled"}},
		{"HttpTokens", o.HttpTokens, []string{"optional", "required"}},
		{"InstanceMetadataTags", o.InstanceMetadataTags, []string{"enabled", "disabled"}},
	} {
		if option.value != "" && !slices.Contains(option.allowed, option.value) {
			return invalidValue(option.value, option.name, "Expected one of "+quoteAll(option.allowed)+".")
		}
	}
	if hops := o.HttpPutResponseHopLimit; hops != nil && (*hops < 1 || *hops > 64) {
		return fail("InvalidParameterValue", "Value (%d) for parameter HttpPutResponseHopLimit is invalid. Expected a number from 1 to 64.", *hops)
	}
	return nil
}
