package ec2

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

func TestInstanceLives(t *testing.T) {
	w := newWorld(t)
	out, err := w.RunInstances(t.Context(), single(w.image("hello")))
	if err != nil {
		t.Fatal(err)
	}
	id := *out.Instances[0].InstanceId
	if got := out.Instances[0]; got.State.Name != types.InstanceStateNamePending || *got.StateReason.Code != "pending" {
		t.Errorf("run as %s because of %+v, want pending", got.State.Name, got.StateReason)
	}
	w.untilRunning(id)
	status := ec2.NewInstanceStatusOkWaiter(w, func(o *ec2.InstanceStatusOkWaiterOptions) { o.MinDelay, o.MaxDelay = impatient, impatient })
	if err := status.Wait(t.Context(), &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	i := w.describeInstance(id)
	if !strings.HasPrefix(*i.PrivateIpAddress, "172.31.") || *i.PrivateDnsName != "ip-"+strings.ReplaceAll(*i.PrivateIpAddress, ".", "-")+".eu-west-1.compute.internal" {
		t.Errorf("the address is %s, the name %s", *i.PrivateIpAddress, *i.PrivateDnsName)
	}
	if i.CurrentInstanceBootMode != types.InstanceBootModeValuesUefi || i.NetworkInterfaces[0].Groups[0].GroupName == nil {
		t.Errorf("runs with boot mode %s in groups %v", i.CurrentInstanceBootMode, i.NetworkInterfaces[0].Groups)
	}

	stopped, err := w.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
	if err != nil || stopped.StoppingInstances[0].PreviousState.Name != types.InstanceStateNameRunning || stopped.StoppingInstances[0].CurrentState.Name != types.InstanceStateNameStopping {
		t.Fatalf("stop gave %v, %v", stopped, err)
	}
	w.untilStopped(id)
	if got := w.describeInstance(id); *got.StateReason.Code != "Client.UserInitiatedShutdown" || *got.PrivateIpAddress != *i.PrivateIpAddress {
		t.Errorf("stopped because %v, with the address %s", got.StateReason, *got.PrivateIpAddress)
	}
	if _, err := w.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilRunning(id)
	if _, err := w.RebootInstances(t.Context(), &ec2.RebootInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilTerminated(id)
	if got := w.describeInstance(id); got.PrivateIpAddress != nil || len(got.BlockDeviceMappings) > 0 {
		t.Errorf("a terminated instance still has %v and %v", got.PrivateIpAddress, got.BlockDeviceMappings)
	}
	_, err = w.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}})
	refused(t, err, "IncorrectInstanceState")
}

func TestTransitionsTakeTheirTimeAndTheTerminatedAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		typical, err := clock.New(clock.Typical, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer typical.Stop()
		books := doortest.Books(t)
		s := newService(t, books, typical, machine.None(), nil)
		defer s.Close(t.Context())
		fleet := s.Fleet("eu-west-1")
		var changes []InstanceState
		defer fleet.Subscribe(func(c StateChange) { changes = append(changes, c.To) })()

		var id string
		books.Do(func() { id = runOne(t, s) })
		state := func() (state InstanceState, known bool) {
			synctest.Wait()
			books.Read(func() {
				var m Member
				m, known = fleet.Member(id)
				state = m.State
			})
			return state, known
		}
		expect := func(want InstanceState) {
			t.Helper()
			if got, _ := state(); got != want {
				t.Errorf("the instance is %s, want %s", got, want)
			}
		}
		expect(Pending)
		time.Sleep(clock.Launch)
		expect(Running)
		books.Do(func() {
			if err := fleet.Terminate(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
		expect(ShuttingDown)
		time.Sleep(clock.Terminate)
		expect(Terminated)
		time.Sleep(rememberTime - time.Second)
		expect(Terminated)
		time.Sleep(time.Second)
		if _, known := state(); known {
			t.Error("the terminated instance is still known after an hour")
		}
		if want := []InstanceState{Running, ShuttingDown, Terminated}; !slices.Equal(changes, want) {
			t.Errorf("subscribers heard %v, want %v", changes, want)
		}
	})
}

func TestVolumesGoWithTheInstanceOrStay(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.BlockDeviceMappings = []types.BlockDeviceMapping{
		{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(5), VolumeType: types.VolumeTypeGp2, Encrypted: aws.Bool(true)}},
		{DeviceName: aws.String("/dev/xvdb"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(7)}},
	}
	in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeVolume, "Name", "data")}
	id := w.run(in)[0]
	w.untilRunning(id)
	volumes := func() []types.Volume {
		out, err := w.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("tag:Name"), Values: []string{"data"}}}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Volumes
	}
	before := volumes()
	root := before[0]
	if len(before) != 2 || *root.Size != 5 || root.VolumeType != types.VolumeTypeGp2 || !*root.Encrypted || *root.Attachments[0].InstanceId != id {
		t.Errorf("the volumes are %+v", before)
	}
	_, err := w.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: root.VolumeId})
	refused(t, err, "VolumeInUse")
	if _, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilTerminated(id)
	if left := volumes(); len(left) != 1 || *left[0].Size != 7 || left[0].State != types.VolumeStateAvailable {
		t.Errorf("left are the volumes %+v, want the second alone", left)
	}
}

func TestRunFromLaunchTemplate(t *testing.T) {
	w := newWorld(t)
	id := w.template("hello", w.fullData())
	w.version(id, ec2.CreateLaunchTemplateVersionInput{SourceVersion: aws.String("1"), LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Small}})
	run := func(version *string, kind types.InstanceType) types.Instance {
		ids := w.run(&ec2.RunInstancesInput{
			MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceType: kind,
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("hello"), Version: version},
		})
		return w.describeInstance(ids[0])
	}
	if got := run(nil, ""); got.InstanceType != types.InstanceTypeT3Micro || tagOf(got.Tags, "aws:ec2launchtemplate:version") != "1" || tagOf(got.Tags, "Name") != "hello" {
		t.Errorf("the default version ran %s with %v", got.InstanceType, got.Tags)
	} else if got.MetadataOptions.HttpTokens != types.HttpTokensStateOptional || *got.MetadataOptions.HttpPutResponseHopLimit != 5 {
		t.Errorf("the template's metadata options do not stand over the image's: %+v", got.MetadataOptions)
	} else if len(got.BlockDeviceMappings) != 2 || *got.IamInstanceProfile.Arn != "arn:aws:iam::123456789012:instance-profile/hello" {
		t.Errorf("ran with %v and %v", got.BlockDeviceMappings, got.IamInstanceProfile)
	}
	_, err := w.RunInstances(t.Context(), &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &id, Version: aws.String("$Latest")},
	})
	// Version 2 has the second device without the snapshot, and so without a size.
	refused(t, err, "MissingParameter")
	if got := run(aws.String("1"), types.InstanceTypeM5Large); got.InstanceType != types.InstanceTypeM5Large {
		t.Errorf("the request's type does not stand over the template's: %s", got.InstanceType)
	}
}

func TestMetadataOptionsFollowTheImage(t *testing.T) {
	w := newWorld(t)
	id := w.run(single(w.image("hello")))[0]
	got := w.describeInstance(id).MetadataOptions
	if got.HttpTokens != types.HttpTokensStateRequired || *got.HttpPutResponseHopLimit != 2 || got.HttpEndpoint != types.InstanceMetadataEndpointStateEnabled {
		t.Errorf("of an image with ImdsSupport v2.0 the options are %+v", got)
	}
	old := w.ami("old")
	old.ImdsSupport = ""
	registered, err := w.RegisterImage(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.describeInstance(w.run(single(*registered.ImageId))[0]).MetadataOptions; got.HttpTokens != types.HttpTokensStateOptional || *got.HttpPutResponseHopLimit != 1 {
		t.Errorf("of an image without ImdsSupport the options are %+v", got)
	}
	w.untilRunning(id)
	if _, err := w.ModifyInstanceMetadataOptions(t.Context(), &ec2.ModifyInstanceMetadataOptionsInput{InstanceId: &id, HttpPutResponseHopLimit: aws.Int32(3)}); err != nil {
		t.Fatal(err)
	}
	if got := w.describeInstance(id).MetadataOptions; *got.HttpPutResponseHopLimit != 3 || got.HttpTokens != types.HttpTokensStateRequired {
		t.Errorf("after the change the options are %+v", got)
	}
}

func TestRunInstancesRefuses(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	arm := w.ami("arm")
	arm.Architecture, arm.BootMode = types.ArchitectureValuesArm64, types.BootModeValuesUefi
	armImage, err := w.RegisterImage(t.Context(), arm)
	if err != nil {
		t.Fatal(err)
	}
	uefi := w.ami("uefi")
	uefi.BootMode = types.BootModeValuesUefi
	uefiImage, err := w.RegisterImage(t.Context(), uefi)
	if err != nil {
		t.Fatal(err)
	}
	old := w.ami("old")
	old.EnaSupport = nil
	oldImage, err := w.RegisterImage(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*ec2.RunInstancesInput)
		code   string
	}{
		"no such image":           {func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("ami-00000000000000000") }, "InvalidAMIID.NotFound"},
		"a malformed image":       {func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("hello") }, "InvalidAMIID.Malformed"},
		"no image":                {func(in *ec2.RunInstancesInput) { in.ImageId = nil }, "MissingParameter"},
		"another architecture":    {func(in *ec2.RunInstancesInput) { in.ImageId = armImage.ImageId }, "InvalidParameterValue"},
		"no such type":            {func(in *ec2.RunInstancesInput) { in.InstanceType = "t9.huge" }, "InvalidParameterValue"},
		"no such subnet":          {func(in *ec2.RunInstancesInput) { in.SubnetId = aws.String("subnet-00000000000000000") }, "InvalidSubnetID.NotFound"},
		"no such group":           {func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-00000000000000000"} }, "InvalidGroup.NotFound"},
		"no such key":             {func(in *ec2.RunInstancesInput) { in.KeyName = aws.String("mine") }, "InvalidKeyPair.NotFound"},
		"too many for the subnet": {func(in *ec2.RunInstancesInput) { in.MinCount, in.MaxCount = aws.Int32(5000), aws.Int32(5000) }, "InsufficientFreeAddressesInSubnet"},
		"none":                    {func(in *ec2.RunInstancesInput) { in.MinCount = aws.Int32(0) }, "InvalidParameterValue"},
		"a root volume too small": {func(in *ec2.RunInstancesInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1)}}}
		}, "InvalidBlockDeviceMapping"},
		"another root snapshot": {func(in *ec2.RunInstancesInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(w.snapshot(2))}}}
		}, "InvalidBlockDeviceMapping"},
		"two kinds of groups": {func(in *ec2.RunInstancesInput) {
			in.SecurityGroups = []string{"default"}
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0)}}
		}, "InvalidParameterCombination"},
		"tags the IMDS cannot show": {func(in *ec2.RunInstancesInput) {
			in.MetadataOptions = &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: types.InstanceMetadataTagsStateEnabled}
			in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeInstance, "Source/CommitId", "abc")}
		}, "InvalidParameterValue"},
		"a subnet in another zone": {func(in *ec2.RunInstancesInput) {
			in.SubnetId = aws.String(w.subnetIn("eu-west-1a"))
			in.Placement = &types.Placement{AvailabilityZone: aws.String("eu-west-1b")}
		}, "InvalidParameterValue"},
		"a subnet in another zone by its id": {func(in *ec2.RunInstancesInput) {
			in.SubnetId = aws.String(w.subnetIn("eu-west-1a"))
			in.Placement = &types.Placement{AvailabilityZoneId: aws.String("euw1-az2")}
		}, "InvalidParameterValue"},
		"no such zone": {func(in *ec2.RunInstancesInput) {
			in.Placement = &types.Placement{AvailabilityZone: aws.String("eu-west-1z")}
		}, "InvalidParameterValue"},
		"no such zone id": {func(in *ec2.RunInstancesInput) {
			in.Placement = &types.Placement{AvailabilityZoneId: aws.String("euw1-az9")}
		}, "InvalidParameterValue"},
		"two zones": {func(in *ec2.RunInstancesInput) {
			in.Placement = &types.Placement{AvailabilityZone: aws.String("eu-west-1a"), AvailabilityZoneId: aws.String("euw1-az1")}
		}, "InvalidParameterCombination"},
		"no such placement group": {func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{GroupName: aws.String("near")} }, "InvalidPlacementGroup.Unknown"},
		"no such host":            {func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{HostId: aws.String("h-0")} }, "InvalidHostID.NotFound"},
		"an interface and a subnet": {func(in *ec2.RunInstancesInput) {
			in.SubnetId = aws.String(w.subnetIn("eu-west-1a"))
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0)}}
		}, "InvalidParameterCombination"},
		"a second interface": {func(in *ec2.RunInstancesInput) {
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(1)}}
		}, "InvalidParameterValue"},
		"groups by name in a subnet": {func(in *ec2.RunInstancesInput) {
			in.SubnetId, in.SecurityGroups = aws.String(w.subnetIn("eu-west-1a")), []string{"default"}
		}, "InvalidParameterCombination"},
		"an address without a subnet": {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("172.31.0.9") }, "InvalidParameterCombination"},
		"a profile by name and ARN": {func(in *ec2.RunInstancesInput) {
			in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("a"), Arn: aws.String("arn:aws:iam::123456789012:instance-profile/a")}
		}, "InvalidParameterCombination"},
		"no profile's ARN": {func(in *ec2.RunInstancesInput) {
			in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: aws.String("arn:aws:iam::123456789012:role/a")}
		}, "InvalidParameterValue"},
		"a persistent Spot request": {func(in *ec2.RunInstancesInput) {
			onSpot(in)
			in.InstanceMarketOptions.SpotOptions = &types.SpotMarketOptions{SpotInstanceType: types.SpotInstanceTypePersistent}
		}, "UnsupportedOperation"},
		"a Spot Instance that stops": {func(in *ec2.RunInstancesInput) {
			onSpot(in)
			in.InstanceMarketOptions.SpotOptions = &types.SpotMarketOptions{InstanceInterruptionBehavior: types.InstanceInterruptionBehaviorStop}
		}, "InvalidParameterCombination"},
		"another market": {func(in *ec2.RunInstancesInput) {
			in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeCapacityBlock}
		}, "InvalidParameterValue"},
		"a protected Spot Instance": {func(in *ec2.RunInstancesInput) { onSpot(in); in.DisableApiTermination = aws.Bool(true) }, "InvalidParameterCombination"},
		"UEFI on Xen": {func(in *ec2.RunInstancesInput) {
			in.ImageId, in.InstanceType = uefiImage.ImageId, types.InstanceTypeT2Micro
		}, "InvalidParameterValue"},
		"no ENA on Nitro": {func(in *ec2.RunInstancesInput) { in.ImageId = oldImage.ImageId }, "InvalidParameterCombination"},
		"hibernation": {func(in *ec2.RunInstancesInput) {
			in.HibernationOptions = &types.HibernationOptionsRequest{Configured: aws.Bool(true)}
		}, "UnsupportedHibernationConfiguration"},
		"an enclave": {func(in *ec2.RunInstancesInput) {
			in.EnclaveOptions = &types.EnclaveOptionsRequest{Enabled: aws.Bool(true)}
		}, "UnsupportedOperation"},
		"encrypted memory": {func(in *ec2.RunInstancesInput) {
			in.CpuOptions = &types.CpuOptionsRequest{AmdSevSnp: types.AmdSevSnpSpecificationEnabled}
		}, "UnsupportedOperation"},
		"a hostname after the id": {func(in *ec2.RunInstancesInput) {
			in.PrivateDnsNameOptions = &types.PrivateDnsNameOptionsRequest{HostnameType: types.HostnameTypeResourceName}
		}, "UnsupportedOperation"},
		"a reservation or nothing": {func(in *ec2.RunInstancesInput) {
			in.CapacityReservationSpecification = &types.CapacityReservationSpecification{CapacityReservationPreference: types.CapacityReservationPreferenceCapacityReservationsOnly}
		}, "ReservationCapacityExceeded"},
		"an interface that stays": {func(in *ec2.RunInstancesInput) {
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), DeleteOnTermination: aws.Bool(false)}}
		}, "UnsupportedOperation"},
		"credits that there are not": {func(in *ec2.RunInstancesInput) {
			in.CreditSpecification = &types.CreditSpecificationRequest{CpuCredits: aws.String("endless")}
		}, "InvalidParameterValue"},
		"a licence": {func(in *ec2.RunInstancesInput) {
			in.LicenseSpecifications = []types.LicenseConfigurationRequest{{LicenseConfigurationArn: aws.String("arn")}}
		}, "UnknownParameter"},
		"an unknown parameter": {func(in *ec2.RunInstancesInput) { in.AdditionalInfo = aws.String("reserved") }, "UnknownParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			in := single(image)
			test.change(in)
			_, err := w.RunInstances(t.Context(), in)
			refused(t, err, test.code)
		})
	}
	if out, err := w.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{}); err != nil || len(out.Volumes) > 0 {
		t.Errorf("refusals left volumes: %v, %v", out.Volumes, err)
	}
}

func (w *world) subnetIn(zone string) string {
	w.Helper()
	out, err := w.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{Filters: []types.Filter{{Name: aws.String("availability-zone"), Values: []string{zone}}}})
	if err != nil {
		w.Fatal(err)
	}
	return *out.Subnets[0].SubnetId
}

// TestRunInstancesTakesWhatSaysNothing runs an instance with the empty
// parameters that aws-sdk-go v1 sends, which the amazon plugin is built with.
func TestRunInstancesTakesWhatSaysNothing(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("")}
	in.Placement = &types.Placement{AvailabilityZone: aws.String("")}
	in.SubnetId, in.UserData, in.EbsOptimized = aws.String(""), aws.String(""), aws.Bool(false)
	in.EnclaveOptions = &types.EnclaveOptionsRequest{Enabled: aws.Bool(false)}
	in.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorStop
	for letter := 'a'; letter <= 'z'; letter++ { // no_ephemeral
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: aws.String("xvdc" + string(letter)), NoDevice: aws.String("")})
	}
	if got := w.describeInstance(w.run(in)[0]); got.IamInstanceProfile != nil || len(got.BlockDeviceMappings) != 1 {
		t.Errorf("run is %+v", got)
	}
}

func TestPlacementIsHonoured(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.Placement = &types.Placement{AvailabilityZoneId: aws.String("euw1-az2"), Tenancy: types.TenancyDedicated}
	got := w.describeInstance(w.run(in)[0])
	if *got.SubnetId != w.subnetIn("eu-west-1b") || *got.Placement.AvailabilityZone != "eu-west-1b" || *got.Placement.AvailabilityZoneId != "euw1-az2" || got.Placement.Tenancy != types.TenancyDedicated {
		t.Errorf("run in %s, %+v", *got.SubnetId, got.Placement)
	}
}

func TestClientTokenRunsOnce(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.ClientToken = aws.String("once")
	first, second := w.run(in), w.run(in)
	if !slices.Equal(first, second) {
		t.Errorf("the same token ran %v and then %v", first, second)
	}
	in.InstanceType = types.InstanceTypeT3Small
	_, err := w.RunInstances(t.Context(), in)
	refused(t, err, "IdempotentParameterMismatch")
	in.InstanceType = types.InstanceTypeT3Micro
	w.untilRunning(first...)
	if _, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: first}); err != nil {
		t.Fatal(err)
	}
	w.untilTerminated(first...)
	_, err = w.RunInstances(t.Context(), in)
	refused(t, err, "IdempotentInstanceTerminated")
}

func TestProtectedInstanceIsNotTerminated(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	run := func(zone string, protected bool) string {
		in := single(image)
		inZone(zone)(in)
		in.DisableApiTermination = &protected
		return w.run(in)[0]
	}
	id, beside, elsewhere := run("eu-west-1a", true), run("eu-west-1a", false), run("eu-west-1b", false)
	w.untilRunning(id, beside, elsewhere)
	_, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{elsewhere, beside, id}})
	refused(t, err, "OperationNotPermitted")
	w.untilTerminated(elsewhere)
	w.untilRunning(id, beside)
	if _, err := w.ModifyInstanceAttribute(t.Context(), &ec2.ModifyInstanceAttributeInput{InstanceId: &id, DisableApiTermination: &types.AttributeBooleanValue{Value: aws.Bool(false)}}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // terminating what is terminated succeeds
		if _, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{beside, "i-00000000000000000"}})
	refused(t, err, "InvalidInstanceID.NotFound")
	w.untilRunning(beside)
}

func TestDescribeInstancesFiltersAndPages(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.MinCount, in.MaxCount = aws.Int32(7), aws.Int32(7)
	in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeInstance, "Name", "hello")}
	ids := w.run(in)
	w.run(single(w.image("other")))
	pages := ec2.NewDescribeInstancesPaginator(w, &ec2.DescribeInstancesInput{MaxResults: aws.Int32(5), Filters: []types.Filter{
		{Name: aws.String("tag:Name"), Values: []string{"h*"}}, {Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}},
	}})
	var got []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				got = append(got, *i.InstanceId)
			}
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("paged through %v, want %v", got, ids)
	}
	_, err := w.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{MaxResults: aws.Int32(5), InstanceIds: ids[:1]})
	refused(t, err, "InvalidParameterCombination")
	_, err = w.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{MaxResults: aws.Int32(2)})
	refused(t, err, "InvalidParameterValue")
	_, err = w.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{NextToken: aws.String("2")})
	refused(t, err, "InvalidNextToken")
}

func TestUserDataAndConsole(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n")))
	id := w.run(in)[0]
	out, err := w.GetConsoleOutput(t.Context(), &ec2.GetConsoleOutputInput{InstanceId: &id})
	if err != nil || aws.ToString(out.Output) != "" {
		t.Errorf("the console has %v, %v", out, err)
	}
	w.books.Read(func() {
		if raw, err := w.service.in("eu-west-1").Instances[id].Launch.userData(); err != nil || string(raw) != "#!/bin/sh\n" {
			t.Errorf("the user data is %q, %v", raw, err)
		}
	})
}

func TestModifyInstanceAttribute(t *testing.T) {
	w := newWorld(t)
	id := w.run(single(w.image("hello")))[0]
	w.untilRunning(id)
	change := func(in ec2.ModifyInstanceAttributeInput) error {
		in.InstanceId = &id
		_, err := w.ModifyInstanceAttribute(t.Context(), &in)
		return err
	}
	larger := ec2.ModifyInstanceAttributeInput{InstanceType: &types.AttributeValue{Value: aws.String("m5.large")}}
	refused(t, change(larger), "IncorrectInstanceState")
	for name, in := range map[string]ec2.ModifyInstanceAttributeInput{
		"the root volume stays":    {BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: aws.Bool(false)}}}},
		"protected, the older way": {Attribute: types.InstanceAttributeNameDisableApiTermination, Value: aws.String("true")},
	} {
		if err := change(in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	refused(t, err, "OperationNotPermitted")
	for name, test := range map[string]struct {
		in   ec2.ModifyInstanceAttributeInput
		code string
	}{
		"nothing":           {ec2.ModifyInstanceAttributeInput{}, "MissingParameter"},
		"two things":        {ec2.ModifyInstanceAttributeInput{DisableApiStop: &types.AttributeBooleanValue{Value: aws.Bool(true)}, Groups: []string{fixedID("sg", "eu-west-1")}}, "InvalidParameterCombination"},
		"no such device":    {ec2.ModifyInstanceAttributeInput{BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{{DeviceName: aws.String("/dev/xvdz")}}}, "InvalidInstanceAttributeValue"},
		"no older form":     {ec2.ModifyInstanceAttributeInput{Attribute: types.InstanceAttributeNameEnaSupport, Value: aws.String("true")}, "InvalidParameterValue"},
		"no kind of SR-IOV": {ec2.ModifyInstanceAttributeInput{SriovNetSupport: &types.AttributeValue{Value: aws.String("complex")}}, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, change(test.in), test.code) })
	}
	if _, err := w.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilStopped(id)
	refused(t, change(ec2.ModifyInstanceAttributeInput{InstanceType: &types.AttributeValue{Value: aws.String("t9.huge")}}), "InvalidInstanceAttributeValue")
	if err := change(larger); err != nil {
		t.Error(err)
	}
	got := w.describeInstance(id)
	if got.InstanceType != types.InstanceTypeM5Large || *got.BlockDeviceMappings[0].Ebs.DeleteOnTermination {
		t.Errorf("changed into %s with %+v", got.InstanceType, got.BlockDeviceMappings[0].Ebs)
	}
}

func TestSpotInstanceThatShutsItselfDownIsTerminated(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	onSpot(in)
	id := w.run(in)[0]
	w.untilRunning(id)
	w.books.Do(func() {
		r := w.service.in("eu-west-1")
		r.ceased(r.Instances[id])
	})
	if got := w.describeInstance(id); got.State.Name != types.InstanceStateNameTerminated || *got.StateReason.Code != "Client.InstanceInitiatedShutdown" {
		t.Errorf("it is %s because of %s", got.State.Name, *got.StateReason.Code)
	}
}

func TestLatestConsoleIsOfNitro(t *testing.T) {
	w := newWorld(t)
	image := w.ami("hello")
	image.BootMode = types.BootModeValuesLegacyBios
	registered, err := w.RegisterImage(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	for kind, code := range map[types.InstanceType]string{types.InstanceTypeT2Micro: "UnsupportedOperation", types.InstanceTypeT3Micro: ""} {
		in := single(*registered.ImageId)
		in.InstanceType = kind
		id := w.run(in)[0]
		_, err := w.GetConsoleOutput(t.Context(), &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: aws.Bool(true)})
		if code == "" && err != nil {
			t.Error(err)
		}
		if code != "" {
			refused(t, err, code)
		}
	}
}

func TestInstanceTypes(t *testing.T) {
	w := newWorld(t)
	out, err := w.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{Filters: []types.Filter{
		{Name: aws.String("processor-info.supported-architecture"), Values: []string{"arm64"}},
		{Name: aws.String("burstable-performance-supported"), Values: []string{"true"}},
		{Name: aws.String("vcpu-info.default-vcpus"), Values: []string{"2"}},
		{Name: aws.String("memory-info.size-in-mib"), Values: []string{"1024"}},
	}})
	if err != nil || len(out.InstanceTypes) != 1 || out.InstanceTypes[0].InstanceType != types.InstanceTypeT4gMicro {
		t.Errorf("found %+v, %v", out, err)
	}
	_, err = w.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t3.micro", "t9.huge"}})
	refused(t, err, "InvalidInstanceType")
	_, err = w.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{MaxResults: aws.Int32(101)})
	refused(t, err, "InvalidParameterValue")
}

func TestImageOfAnInstance(t *testing.T) {
	w := newWorld(t)
	from := w.image("hello")
	id := w.run(single(from))[0]
	w.untilRunning(id)
	out, err := w.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &id, Name: aws.String("made"), TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeSnapshot, "a", "b")}})
	if err != nil {
		t.Fatal(err)
	}
	w.untilImage(w.Client, *out.ImageId)
	got := w.describeImage(*out.ImageId)
	if *got.SourceInstanceId != id || got.BootMode != types.BootModeValuesUefiPreferred || got.ImdsSupport != types.ImdsSupportValuesV20 || !*got.BlockDeviceMappings[0].Ebs.DeleteOnTermination {
		t.Errorf("made %+v", got)
	}
	w.books.Read(func() {
		original := w.store.In("eu-west-1").Snapshots[*w.describedSnapshot(from)]
		made := w.store.In("eu-west-1").Snapshots[*got.BlockDeviceMappings[0].Ebs.SnapshotId]
		a, _ := original.At(3)
		if b, ok := made.At(3); !ok || a != b || made.Tags["a"] != "b" {
			t.Error("the image's snapshot has other blocks, or other tags")
		}
	})
}
