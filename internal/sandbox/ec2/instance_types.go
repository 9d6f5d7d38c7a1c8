package ec2

import (
	"fmt"
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
	xen := instanceType{Architecture: []string{"i386", "x86_64"}, BootModes: []string{"legacy-bios"}}
	intel := instanceType{Architecture: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, EnaRequired: true, NitroTpm: true}
	graviton := instanceType{Architecture: []string{"arm64"}, BootModes: []string{"uefi"}, EnaRequired: true, NitroTpm: true}
	named := func(like instanceType, name string) instanceType { like.Name = name; return like }

	family(named(xen, "t2"), 1, map[string]int{"nano": 5, "micro": 10, "small": 20}) // in tenths of a GiB
	for _, name := range []string{"t3", "t3a"} {
		family(named(intel, name), 2, map[string]int{"nano": 5, "micro": 10, "small": 20, "medium": 40, "large": 80})
	}
	family(named(graviton, "t4g"), 2, map[string]int{"nano": 5, "micro": 10, "small": 20, "medium": 40, "large": 80})
	for _, name := range []string{"m5", "m6i", "m7i"} {
		family(named(intel, name), 2, map[string]int{"large": 80})
		family(named(intel, name), 4, map[string]int{"xlarge": 160})
	}
	for _, name := range []string{"m6g", "m7g", "m8g"} {
		family(named(graviton, name), 1, map[string]int{"medium": 40})
		family(named(graviton, name), 2, map[string]int{"large": 80})
		family(named(graviton, name), 4, map[string]int{"xlarge": 160})
	}
	for _, name := range []string{"c5", "c6i", "c7i"} {
		family(named(intel, name), 2, map[string]int{"large": 40})
		family(named(intel, name), 4, map[string]int{"xlarge": 80})
	}
	for _, name := range []string{"c6g", "c7g"} {
		family(named(graviton, name), 1, map[string]int{"medium": 20})
		family(named(graviton, name), 2, map[string]int{"large": 40})
	}
	return types
}()

// fits refuses an image that cannot run on the type.
func (t *instanceType) fits(i *image) error {
	if !slices.Contains(t.Architecture, i.Architecture) {
		return fail("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.",
			strings.Join(t.Architecture, ","), i.Architecture)
	}
	if t.EnaRequired && i.VirtualizationType != "hvm" {
		return fail("InvalidParameterCombination", "Non-Windows instances with a virtualization type of 'hvm' are required for this instance type. The instance type '%s' does not support '%s'.", t.Name, i.VirtualizationType)
	}
	if t.EnaRequired && !i.EnaSupport {
		return fail("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is required for the '%s' instance type. Ensure that you are using an AMI that is enabled for ENA.", t.Name)
	}
	if mode := i.BootMode; mode != "" && mode != "uefi-preferred" && !slices.Contains(t.BootModes, mode) {
		return fail("InvalidParameterCombination", "The boot mode '%s' of the specified AMI is not supported by the instance type '%s'.", mode, t.Name)
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

var instanceTypeFilters = filterable[*instanceType]{values: map[string]func(*instanceType) []string{
	"current-generation":                    func(*instanceType) []string { return truth(true) },
	"instance-type":                         func(t *instanceType) []string { return []string{t.Name} },
	"memory-info.size-in-mib":               func(t *instanceType) []string { return []string{fmt.Sprint(t.MemoryMiB)} },
	"processor-info.supported-architecture": func(t *instanceType) []string { return t.Architecture },
	"supported-boot-mode":                   func(t *instanceType) []string { return t.BootModes },
	"vcpu-info.default-vcpus":               func(t *instanceType) []string { return []string{fmt.Sprint(t.Cpus)} },
}}

func (r *region) describeInstanceTypes(_ *api.Call, in *describeInstanceTypesInput) (*describeInstanceTypesOutput, error) {
	names := slices.Sorted(maps.Keys(instanceTypes))
	for _, name := range in.InstanceTypes {
		if instanceTypes[name] == nil {
			return nil, fail("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
	}
	if err := in.noPageWith(in.InstanceTypes, "InstanceType"); err != nil {
		return nil, err
	}
	var types []*instanceType
	for _, name := range names {
		if len(in.InstanceTypes) == 0 || slices.Contains(in.InstanceTypes, name) {
			types = append(types, instanceTypes[name])
		}
	}
	types, err := instanceTypeFilters.keep(types, in.Filters)
	if err != nil {
		return nil, err
	}
	types, next, err := cut(types, in.paging, pageRange{5, 100}, func(t *instanceType) string { return t.Name })
	out := &describeInstanceTypesOutput{NextToken: next}
	for _, t := range types {
		out.InstanceTypes = append(out.InstanceTypes, t.item())
	}
	return out, err
}
