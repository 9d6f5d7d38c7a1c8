package ec2

import (
	"cmp"
	"slices"
)

// checkOptions refuses what the sandbox's instances can't be or do, and values
// that an option doesn't have (the doc comments of RunInstances' parameters). What
// an instance without the option does as well may be asked for. A launch template
// may hold all of it.
func (d launchData) checkOptions() error {
	for _, option := range []struct {
		parameter, value string
		values           []string
	}{
		{"CapacityReservationSpecification.CapacityReservationPreference", orZero(d.CapacityReservationSpecification).CapacityReservationPreference, []string{"capacity-reservations-only", "none", "open"}},
		{"CpuOptions.AmdSevSnp", orZero(d.CpuOptions).AmdSevSnp, []string{"disabled", "enabled"}},
		{"CreditSpecification.CpuCredits", orZero(d.CreditSpecification).CpuCredits, []string{"standard", "unlimited"}},
		{"MaintenanceOptions.AutoRecovery", orZero(d.MaintenanceOptions).AutoRecovery, []string{"default", "disabled"}},
		{"PrivateDnsNameOptions.HostnameType", orZero(d.PrivateDnsNameOptions).HostnameType, []string{"ip-name", "resource-name"}},
	} {
		if option.value != "" && !slices.Contains(option.values, option.value) {
			return fail("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected one of %v.", option.value, option.parameter, option.values)
		}
	}
	switch {
	case orZero(orZero(d.HibernationOptions).Configured):
		return fail("UnsupportedHibernationConfiguration", "The sandbox's instances cannot be hibernated.")
	case orZero(orZero(d.EnclaveOptions).Enabled):
		return fail("UnsupportedOperation", "The sandbox's instances have no Nitro Enclaves.")
	case orZero(d.CpuOptions).AmdSevSnp == "enabled":
		return fail("UnsupportedOperation", "The sandbox's instances have no AMD SEV-SNP.")
	case orZero(d.PrivateDnsNameOptions).HostnameType == "resource-name":
		return fail("UnsupportedOperation", "The sandbox's instances are called after their addresses, not after their ids.")
	case orZero(d.CapacityReservationSpecification).CapacityReservationPreference == "capacity-reservations-only":
		return fail("ReservationCapacityExceeded", "The sandbox has no capacity reservations, in which alone the instance may run.")
	case slices.ContainsFunc(d.NetworkInterfaces, func(n networkInterface) bool { return !*cmp.Or(n.DeleteOnTermination, new(true)) }):
		return fail("UnsupportedOperation", "The sandbox's network interfaces end with their instances.")
	}
	return nil
}
