package ec2

import (
	"maps"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// instanceType is what of an instance type decides whether an image fits it
// (https://docs.aws.amazon.com/ec2/latest/instancetypes/).
type instanceType struct {
	Name         string
	Cpus         int
	MemoryMiB    int
	DollarsAGiB  float64 // what an hour costs On-Demand, by the memory
	Architecture []string
	BootModes    []string
	EnaRequired  bool
	NitroTpm     bool
}

// instanceTypes are the types that the sandbox has: the usual small ones.
var instanceTypes = func() map[string]*instanceType {
	types := map[string]*instanceType{}
	family := func(like instanceType, cpus int, sizes map[string]int) {
		for name, gib10 := range sizes {
			one := like
			one.Name = like.Name + "." + name
			one.Cpus, one.MemoryMiB = cpus, gib10*1024/10
			types[one.Name] = &one
		}
	}
	// In each family the price goes by the memory. The prices are us-east-1's
	// (https://aws.amazon.com/ec2/pricing/on-demand/), and everywhere the same here.
	xen := instanceType{Architecture: []string{"i386", "x86_64"}, BootModes: []string{"legacy-bios"}}
	intel := instanceType{Architecture: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, EnaRequired: true, NitroTpm: true}
	graviton := instanceType{Architecture: []string{"arm64"}, BootModes: []string{"uefi"}, EnaRequired: true, NitroTpm: true}
	named := func(like instanceType, name string, price float64) instanceType {
		like.Name, like.DollarsAGiB = name, price
		return like
	}

	family(named(xen, "t2", 0.0116), 1, map[string]int{"nano": 5, "micro": 10, "small": 20}) // in tenths of a GiB
	for name, price := range map[string]float64{"t3": 0.0104, "t3a": 0.0094} {
		family(named(intel, name, price), 2, map[string]int{"nano": 5, "micro": 10, "small": 20, "medium": 40, "large": 80})
	}
	family(named(graviton, "t4g", 0.0084), 2, map[string]int{"nano": 5, "micro": 10, "small": 20, "medium": 40, "large": 80})
	for name, price := range map[string]float64{"m5": 0.012, "m6i": 0.012, "m7i": 0.0126} {
		family(named(intel, name, price), 2, map[string]int{"large": 80})
		family(named(intel, name, price), 4, map[string]int{"xlarge": 160})
	}
	for name, price := range map[string]float64{"m6g": 0.009625, "m7g": 0.0102, "m8g": 0.01122} {
		family(named(graviton, name, price), 1, map[string]int{"medium": 40})
		family(named(graviton, name, price), 2, map[string]int{"large": 80})
		family(named(graviton, name, price), 4, map[string]int{"xlarge": 160})
	}
	for name, price := range map[string]float64{"c5": 0.02125, "c6i": 0.02125, "c7i": 0.0223125} {
		family(named(intel, name, price), 2, map[string]int{"large": 40})
		family(named(intel, name, price), 4, map[string]int{"xlarge": 80})
	}
	for name, price := range map[string]float64{"c6g": 0.017, "c7g": 0.018125} {
		family(named(graviton, name, price), 1, map[string]int{"medium": 20})
		family(named(graviton, name, price), 2, map[string]int{"large": 40})
	}
	return types
}()

// price is what an hour costs On-Demand, in USD.
func (t *instanceType) price() float64 { return t.DollarsAGiB * float64(t.MemoryMiB) / 1024 }

// nitro tells whether the type is built on the Nitro System.
func (t *instanceType) nitro() bool { return t.EnaRequired }

// fits refuses an image that cannot run on the type.
func (t *instanceType) fits(i *image) error {
	if !slices.Contains(t.Architecture, i.Architecture) {
		return fail("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again. You can use 'describe-instance-types' or 'describe-images' to discover the architecture of the instance type or AMI.",
			strings.Join(t.Architecture, ","), i.Architecture)
	}
	if t.EnaRequired && i.VirtualizationType != "hvm" {
		return fail("InvalidParameterCombination", "Non-Windows instances with a virtualization type of 'hvm' are required for this instance type. The instance type '%s' does not support '%s'.", t.Name, i.VirtualizationType)
	}
	if t.EnaRequired && !i.EnaSupport {
		return fail("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is required for the '%s' instance type. Ensure that you are using an AMI that is enabled for ENA.", t.Name)
	}
	if mode := i.BootMode; mode != "" && mode != "uefi-preferred" && !slices.Contains(t.BootModes, mode) {
		if mode == "uefi" { // RhinoSecurityLabs/cloudgoat#247
			return fail("InvalidParameterValue", "The %s instance type does not support an AMI with a boot mode of UEFI. Only instance types built on the Nitro System support UEFI. Specify an instance type that supports UEFI, and try again.", t.Name)
		}
		return fail("InvalidParameterValue", "The %s instance type does not support an AMI with a boot mode of %s. Specify an instance type that supports it, and try again.", t.Name, mode)
	}
	if i.TpmSupport != "" && !t.NitroTpm {
		return fail("UnsupportedOperation", "The instance type '%s' does not support NitroTPM, which the specified AMI needs.", t.Name)
	}
	return nil
}

// boots tells the boot mode in which an image of the given mode starts on the
// type.
func (t *instanceType) boots(mode string) string {
	switch {
	case mode == "uefi-preferred" && slices.Contains(t.BootModes, "uefi"):
		return "uefi"
	case mode == "uefi-preferred" || mode == "":
		return t.BootModes[0]
	}
	return mode
}

type instanceTypeItem struct {
	BareMetal                     bool
	BurstablePerformanceSupported bool
	CurrentGeneration             bool
	Hypervisor                    string
	InstanceStorageSupported      bool
	InstanceType                  string
	MemoryInfo                    struct{ SizeInMiB int }
	NetworkInfo                   struct{ EnaSupport string }
	NitroTpmSupport               string
	ProcessorInfo                 struct{ SupportedArchitectures []string }
	SupportedBootModes            []string
	SupportedRootDeviceTypes      []string
	SupportedUsageClasses         []string
	SupportedVirtualizationTypes  []string
	VCpuInfo                      struct {
		DefaultVCpus int
	}
}

func (t *instanceType) item() instanceTypeItem {
	it := instanceTypeItem{
		BurstablePerformanceSupported: strings.HasPrefix(t.Name, "t"), CurrentGeneration: true, Hypervisor: "nitro",
		InstanceType: t.Name, NitroTpmSupport: "unsupported", SupportedBootModes: t.BootModes,
		SupportedRootDeviceTypes: []string{"ebs"}, SupportedUsageClasses: []string{"on-demand", "spot"},
		SupportedVirtualizationTypes: []string{"hvm"},
	}
	if t.NitroTpm {
		it.NitroTpmSupport = "supported"
	}
	it.NetworkInfo.EnaSupport = "required"
	if !t.EnaRequired {
		it.Hypervisor, it.NetworkInfo.EnaSupport = "xen", "unsupported"
	}
	it.MemoryInfo.SizeInMiB = t.MemoryMiB
	it.ProcessorInfo.SupportedArchitectures = t.Architecture
	it.VCpuInfo.DefaultVCpus = t.Cpus
	return it
}

type describeInstanceTypesInput struct {
	paging
	Filters       []filter `wire:"Filter"`
	InstanceTypes []string `wire:"InstanceType"`
}

type describeInstanceTypesOutput struct {
	InstanceTypes []instanceTypeItem `wire:",instanceTypeSet"`
	NextToken     string
}

var instanceTypeFilters = filterable[instanceTypeItem]{values: map[string]func(instanceTypeItem) []string{
	"bare-metal":                            func(t instanceTypeItem) []string { return truth(t.BareMetal) },
	"burstable-performance-supported":       func(t instanceTypeItem) []string { return truth(t.BurstablePerformanceSupported) },
	"current-generation":                    func(t instanceTypeItem) []string { return truth(t.CurrentGeneration) },
	"hypervisor":                            func(t instanceTypeItem) []string { return []string{t.Hypervisor} },
	"instance-storage-supported":            func(t instanceTypeItem) []string { return truth(t.InstanceStorageSupported) },
	"instance-type":                         func(t instanceTypeItem) []string { return []string{t.InstanceType} },
	"memory-info.size-in-mib":               func(t instanceTypeItem) []string { return number(&t.MemoryInfo.SizeInMiB) },
	"network-info.ena-support":              func(t instanceTypeItem) []string { return []string{t.NetworkInfo.EnaSupport} },
	"nitro-tpm-support":                     func(t instanceTypeItem) []string { return []string{t.NitroTpmSupport} },
	"processor-info.supported-architecture": func(t instanceTypeItem) []string { return t.ProcessorInfo.SupportedArchitectures },
	"supported-boot-mode":                   func(t instanceTypeItem) []string { return t.SupportedBootModes },
	"supported-root-device-type":            func(t instanceTypeItem) []string { return t.SupportedRootDeviceTypes },
	"supported-usage-class":                 func(t instanceTypeItem) []string { return t.SupportedUsageClasses },
	"supported-virtualization-type":         func(t instanceTypeItem) []string { return t.SupportedVirtualizationTypes },
	"vcpu-info.default-vcpus":               func(t instanceTypeItem) []string { return number(&t.VCpuInfo.DefaultVCpus) },
}}

// maxInstanceTypes is how many types one call may name (DescribeInstanceTypes).
const maxInstanceTypes = 100

func (r *region) describeInstanceTypes(_ *api.Call, in *describeInstanceTypesInput) (*describeInstanceTypesOutput, error) {
	if len(in.InstanceTypes) > maxInstanceTypes {
		return nil, fail("InvalidParameterValue", "At most %d instance types can be named in one call.", maxInstanceTypes)
	}
	var unknown []string
	for _, name := range in.InstanceTypes {
		if instanceTypes[name] == nil {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return nil, fail("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", strings.Join(unknown, ", "))
	}
	if err := in.noPageWith(in.InstanceTypes, "InstanceType"); err != nil {
		return nil, err
	}
	if err := in.atMost(maxInstanceTypes); err != nil {
		return nil, err
	}
	var types []instanceTypeItem
	for _, name := range slices.Sorted(maps.Keys(instanceTypes)) {
		if len(in.InstanceTypes) == 0 || slices.Contains(in.InstanceTypes, name) {
			types = append(types, instanceTypes[name].item())
		}
	}
	types, err := instanceTypeFilters.keep(types, in.Filters)
	if err != nil {
		return nil, err
	}
	types, next, err := cut(types, in.paging, pageRange{5, maxInstanceTypes}, func(t instanceTypeItem) string { return t.InstanceType })
	return &describeInstanceTypesOutput{types, next}, err
}
