package ec2

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// fullData has about everything that a careful operator puts into a launch
// template.
func (w *world) fullData() *types.RequestLaunchTemplateData {
	return &types.RequestLaunchTemplateData{
		ImageId: aws.String(w.image("hello")), InstanceType: types.InstanceTypeT3Micro,
		UserData:           aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))),
		IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String("hello")},
		BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{VolumeSize: aws.Int32(3), Encrypted: aws.Bool(true)}},
			{DeviceName: aws.String("/dev/xvdb"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{SnapshotId: aws.String(w.snapshot(1)), DeleteOnTermination: aws.Bool(true)}},
		},
		NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
			DeviceIndex: aws.Int32(0), Groups: []string{fixedID("sg", "eu-west-1")}, AssociatePublicIpAddress: aws.Bool(false),
		}},
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: types.LaunchTemplateHttpTokensStateOptional, HttpPutResponseHopLimit: aws.Int32(5)},
		Monitoring:      &types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(true)},
		TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{
			{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("hello")}}},
			{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("hello's")}}},
		},
	}
}

func (w *world) template(name string, data *types.RequestLaunchTemplateData) string {
	w.Helper()
	out, err := w.CreateLaunchTemplate(w.Context(), &ec2.CreateLaunchTemplateInput{LaunchTemplateName: &name, LaunchTemplateData: data})
	if err != nil {
		w.Fatal(err)
	}
	return *out.LaunchTemplate.LaunchTemplateId
}

func (w *world) version(id string, in ec2.CreateLaunchTemplateVersionInput) types.LaunchTemplateVersion {
	w.Helper()
	in.LaunchTemplateId = &id
	out, err := w.CreateLaunchTemplateVersion(w.Context(), &in)
	if err != nil {
		w.Fatal(err)
	}
	return *out.LaunchTemplateVersion
}

func TestLaunchTemplateVersionTakesOverWhatIsNotGiven(t *testing.T) {
	w := newWorld(t)
	data := w.fullData()
	id := w.template("hello", data)
	next := w.image("hello-2")
	got := w.version(id, ec2.CreateLaunchTemplateVersionInput{
		SourceVersion: aws.String("1"), VersionDescription: aws.String("two"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &next, TagSpecifications: data.TagSpecifications[:1]},
	})
	if *got.VersionNumber != 2 || *got.DefaultVersion || *got.VersionDescription != "two" {
		t.Errorf("made version %d, default %v, %q", *got.VersionNumber, *got.DefaultVersion, *got.VersionDescription)
	}
	d := got.LaunchTemplateData
	switch {
	case *d.ImageId != next:
		t.Errorf("the image is %s, want %s", *d.ImageId, next)
	case *d.UserData != *data.UserData || d.InstanceType != data.InstanceType || *d.IamInstanceProfile.Name != "hello" || !*d.Monitoring.Enabled:
		t.Errorf("lost of version 1: %+v", d)
	case d.NetworkInterfaces[0].Groups[0] != data.NetworkInterfaces[0].Groups[0]:
		t.Errorf("the network interface's groups are %v", d.NetworkInterfaces[0].Groups)
	case *d.MetadataOptions.HttpPutResponseHopLimit != 5:
		t.Errorf("the metadata options are %+v", d.MetadataOptions)
	case len(d.TagSpecifications) != 1:
		t.Errorf("tag specifications were merged, not replaced: %v", d.TagSpecifications)
	case len(d.BlockDeviceMappings) != 2 || *d.BlockDeviceMappings[0].Ebs.VolumeSize != 3:
		t.Errorf("the mappings are %v", d.BlockDeviceMappings)
	case d.BlockDeviceMappings[1].Ebs.SnapshotId != nil:
		t.Error("the snapshot of a mapping was taken over without being given")
	}
	if bare := w.version(id, ec2.CreateLaunchTemplateVersionInput{LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &next}}); bare.LaunchTemplateData.UserData != nil {
		t.Error("a version without a source took something over")
	}
}

func TestDescribeLaunchTemplateVersions(t *testing.T) {
	w := newWorld(t)
	id := w.template("hello", &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro})
	for range 4 {
		w.version(id, ec2.CreateLaunchTemplateVersionInput{LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Small}})
	}
	if _, err := w.ModifyLaunchTemplate(t.Context(), &ec2.ModifyLaunchTemplateInput{LaunchTemplateName: aws.String("hello"), DefaultVersion: aws.String("3")}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		in   ec2.DescribeLaunchTemplateVersionsInput
		want string
	}{
		"all":                   {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id}, "5 4 3 2 1"},
		"by name":               {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: aws.String("hello")}, "5 4 3 2 1"},
		"latest":                {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, Versions: []string{"$Latest"}}, "5"},
		"default and a number":  {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, Versions: []string{"$Default", "1"}}, "3 1"},
		"a range":               {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, MinVersion: aws.String("2"), MaxVersion: aws.String("4")}, "4 3 2"},
		"latest of all":         {ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}}, "5"},
		"filtered":              {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, Filters: []types.Filter{{Name: aws.String("is-default-version"), Values: []string{"true"}}}}, "3"},
		"in pages of two":       {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, MaxResults: aws.Int32(2)}, "5 4 3 2 1"},
		"filtered in pages too": {ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, MaxResults: aws.Int32(1), Filters: []types.Filter{{Name: aws.String("instance-type"), Values: []string{"t3.s*"}}}}, "5 4 3 2"},
	} {
		t.Run(name, func(t *testing.T) {
			pages := ec2.NewDescribeLaunchTemplateVersionsPaginator(w, &test.in)
			var got []string
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range page.LaunchTemplateVersions {
					got = append(got, fmt.Sprint(*v.VersionNumber))
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("described %v, want %s", got, test.want)
			}
		})
	}
	for code, in := range map[string]*ec2.DescribeLaunchTemplateVersionsInput{
		"InvalidLaunchTemplateId.VersionNotFound":     {LaunchTemplateId: &id, Versions: []string{"9"}},
		"InvalidLaunchTemplateId.NotFound":            {LaunchTemplateId: aws.String("lt-00000000000000000")},
		"InvalidLaunchTemplateId.Malformed":           {LaunchTemplateId: aws.String("lt-?")},
		"InvalidLaunchTemplateName.NotFoundException": {LaunchTemplateName: aws.String("world")},
		"InvalidParameterCombination":                 {LaunchTemplateName: aws.String("hello"), LaunchTemplateId: &id},
		"MissingParameter":                            {},
		"InvalidParameterValue":                       {Versions: []string{"1"}},
	} {
		_, err := w.DescribeLaunchTemplateVersions(t.Context(), in)
		refused(t, err, code)
	}
}

func TestDeleteLaunchTemplateVersionsSparesTheDefault(t *testing.T) {
	w := newWorld(t)
	id := w.template("hello", &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro})
	w.version(id, ec2.CreateLaunchTemplateVersionInput{LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Small}})
	out, err := w.DeleteLaunchTemplateVersions(t.Context(), &ec2.DeleteLaunchTemplateVersionsInput{LaunchTemplateId: &id, Versions: []string{"1", "2", "7"}})
	if err != nil {
		t.Fatal(err)
	}
	if done := out.SuccessfullyDeletedLaunchTemplateVersions; len(done) != 1 || *done[0].VersionNumber != 2 {
		t.Errorf("deleted %v", done)
	}
	if not := out.UnsuccessfullyDeletedLaunchTemplateVersions; len(not) != 2 || not[1].ResponseError.Code != types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist {
		t.Errorf("not deleted %v", not)
	}
	// A number is never used twice.
	if next := w.version(id, ec2.CreateLaunchTemplateVersionInput{LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Small}}); *next.VersionNumber != 3 {
		t.Errorf("the next version is %d, want 3", *next.VersionNumber)
	}
}

func TestCreateLaunchTemplateRefuses(t *testing.T) {
	w := newWorld(t)
	w.template("hello", &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro})
	long := base64.StdEncoding.EncodeToString(make([]byte, maxUserData+1))
	for name, test := range map[string]struct {
		name string
		data types.RequestLaunchTemplateData
		code string
	}{
		"a name that is taken":  {"hello", types.RequestLaunchTemplateData{EbsOptimized: aws.Bool(true)}, "InvalidLaunchTemplateName.AlreadyExistsException"},
		"a malformed name":      {"hello world", types.RequestLaunchTemplateData{EbsOptimized: aws.Bool(true)}, "InvalidLaunchTemplateName.MalformedException"},
		"user data not encoded": {"new", types.RequestLaunchTemplateData{UserData: aws.String("#!/bin/sh")}, "InvalidUserData.Malformed"},
		"user data too long":    {"new", types.RequestLaunchTemplateData{UserData: &long}, "InvalidParameterValue"},
		"no such instance type": {"new", types.RequestLaunchTemplateData{InstanceType: "t9.huge"}, "InvalidParameterValue"},
		"tags for images":       {"new", types.RequestLaunchTemplateData{TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{{ResourceType: types.ResourceTypeImage, Tags: []types.Tag{{Key: aws.String("a")}}}}}, "InvalidParameterValue"},
		"a reserved tag":        {"new", types.RequestLaunchTemplateData{TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("aws:a")}}}}}, "InvalidParameterValue"},
		"an unknown parameter":  {"new", types.RequestLaunchTemplateData{RamDiskId: aws.String("ari-1")}, "UnknownParameter"},
		"a device twice":        {"new", types.RequestLaunchTemplateData{BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{{DeviceName: aws.String("a")}, {DeviceName: aws.String("a")}}}, "InvalidBlockDeviceMapping"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{LaunchTemplateName: &test.name, LaunchTemplateData: &test.data})
			refused(t, err, test.code)
		})
	}
}

func TestLaunchTemplateLimits(t *testing.T) {
	w := newWorld(t)
	data := &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro}
	id := w.template("hello", data)
	long := strings.Repeat("x", maxVersionDescription+1)
	_, err := w.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("long"), VersionDescription: &long, LaunchTemplateData: data})
	refused(t, err, "InvalidParameterValue")
	_, err = w.CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: &id, VersionDescription: &long, LaunchTemplateData: data})
	refused(t, err, "InvalidParameterValue")
	_, err = w.DescribeLaunchTemplates(t.Context(), &ec2.DescribeLaunchTemplatesInput{MaxResults: aws.Int32(201)})
	refused(t, err, "InvalidParameterValue")
	_, err = w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, MaxResults: aws.Int32(201)})
	refused(t, err, "InvalidParameterValue")
	_, err = w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}, MinVersion: aws.String("1")})
	refused(t, err, "InvalidParameterCombination")

	w.books.Do(func() { // 5,000 calls are too many
		r := w.service.in("eu-west-1")
		for len(r.LaunchTemplates) < maxLaunchTemplates {
			more := &launchTemplate{resource: r.newResource("lt", nil)}
			r.LaunchTemplates[more.Id] = more
		}
		template := r.LaunchTemplates[id]
		for len(template.Versions) < maxLaunchTemplateVersions {
			template.add("", "", r.now(), launchData{})
		}
	})
	_, err = w.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("more"), LaunchTemplateData: data})
	refused(t, err, "LaunchTemplateLimitExceeded")
	_, err = w.CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: &id, LaunchTemplateData: data})
	refused(t, err, "VersionLimitExceeded")
}

func TestLaunchTemplateWarnsOfWhatCannotBeRun(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	for name, test := range map[string]struct {
		data types.RequestLaunchTemplateData
		want string
	}{
		"all-is-well":  {types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT3Micro}, ""},
		"no-image":     {types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro}, ""},
		"by-parameter": {types.RequestLaunchTemplateData{ImageId: aws.String("resolve:ssm:/later"), InstanceType: types.InstanceTypeT3Micro}, ""},
		"lost-image":   {types.RequestLaunchTemplateData{ImageId: aws.String("ami-00000000000000000"), InstanceType: types.InstanceTypeT3Micro}, "InvalidAMIID.NotFound"},
		"misfit":       {types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT4gMicro}, "InvalidParameterValue"},
		"lost-key":     {types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT3Micro, KeyName: aws.String("mine")}, "InvalidKeyPair.NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.CreateLaunchTemplate(t.Context(), &ec2.CreateLaunchTemplateInput{LaunchTemplateName: &name, LaunchTemplateData: &test.data})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if out.Warning != nil {
				got = *out.Warning.Errors[0].Code
			}
			if got != test.want {
				t.Errorf("the warning is %q, want %q", got, test.want)
			}
		})
	}
}

func TestFleetSubnetGoesIntoTheTemplatesInterface(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	id := w.template("hello", &types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT3Micro, NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
		DeviceIndex: aws.Int32(0), Groups: []string{fixedID("sg", "eu-west-1")},
	}}})
	subnet := w.subnetIn("eu-west-1c")
	in := instant(1, types.DefaultTargetCapacityTypeOnDemand, types.FleetLaunchTemplateOverridesRequest{SubnetId: &subnet})
	if out := w.createFleet(in); len(out.Instances) != 1 || *out.Instances[0].SubnetId != subnet {
		t.Errorf("launched %+v, errors %+v", out.Instances, out.Errors)
	}
	// RunInstances refuses the same.
	_, err := w.RunInstances(t.Context(), &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &subnet, LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &id},
	})
	refused(t, err, "InvalidParameterCombination")
}

func TestCreateLaunchTemplateVersionIsIdempotent(t *testing.T) {
	w := newWorld(t)
	id := w.template("hello", &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro})
	in := ec2.CreateLaunchTemplateVersionInput{ClientToken: aws.String("t"), LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Small}}
	first, second := w.version(id, in), w.version(id, in)
	if *first.VersionNumber != *second.VersionNumber || second.LaunchTemplateData.InstanceType != types.InstanceTypeT3Small {
		t.Errorf("the same token made version %d and then %d", *first.VersionNumber, *second.VersionNumber)
	}
}

func TestDescribeAndDeleteLaunchTemplates(t *testing.T) {
	w := newWorld(t)
	data := &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeT3Micro}
	first, second := w.template("first", data), w.template("second", data)
	out, err := w.DescribeLaunchTemplates(t.Context(), &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"second"}})
	if err != nil || len(out.LaunchTemplates) != 1 || *out.LaunchTemplates[0].LaunchTemplateId != second || *out.LaunchTemplates[0].LatestVersionNumber != 1 {
		t.Errorf("described %v, %v", out, err)
	}
	if _, err := w.DeleteLaunchTemplate(t.Context(), &ec2.DeleteLaunchTemplateInput{LaunchTemplateName: aws.String("second")}); err != nil {
		t.Fatal(err)
	}
	pages := ec2.NewDescribeLaunchTemplatesPaginator(w, &ec2.DescribeLaunchTemplatesInput{MaxResults: aws.Int32(1)})
	page, err := pages.NextPage(t.Context())
	if err != nil || pages.HasMorePages() || *page.LaunchTemplates[0].LaunchTemplateId != first {
		t.Errorf("left are %v, %v", page, err)
	}
}

func TestResolveAliasReadsTheParameter(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	w.parameters["/hello/ami"] = image
	id := w.template("hello", &types.RequestLaunchTemplateData{ImageId: aws.String("resolve:ssm:/hello/ami"), InstanceType: types.InstanceTypeT3Micro})
	for _, resolve := range []bool{true, false} {
		out, err := w.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, ResolveAlias: &resolve})
		if err != nil {
			t.Fatal(err)
		}
		if got := *out.LaunchTemplateVersions[0].LaunchTemplateData.ImageId; (got == image) != resolve {
			t.Errorf("ResolveAlias %v gives %s", resolve, got)
		}
	}
	ids := w.run(&ec2.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &id}})
	if got := *w.describeInstance(ids[0]).ImageId; got != image {
		t.Errorf("ran %s, want %s", got, image)
	}
}
