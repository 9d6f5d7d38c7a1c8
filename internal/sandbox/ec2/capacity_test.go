package ec2

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// inZone has an instance run in a zone.
func inZone(zone string) func(*ec2.RunInstancesInput) {
	return func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{AvailabilityZone: &zone} }
}

// onSpot has a Spot Instance run.
func onSpot(in *ec2.RunInstancesInput) {
	in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot}
}

func TestCapacityRunsOut(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	w.run(single(image)) // so that there are vCPUs in use
	for name, test := range map[string]struct {
		rules []Shortage
		ask   []func(*ec2.RunInstancesInput)
		code  string // empty when instances are run
		says  string
		count int // of them
		zone  string
	}{
		"in the zone": {
			[]Shortage{{Zone: "eu-west-1a"}}, []func(*ec2.RunInstancesInput){inZone("eu-west-1a")}, InsufficientInstanceCapacity,
			"We currently do not have sufficient t3.micro capacity in the Availability Zone you requested (eu-west-1a). Our system will be working on provisioning additional capacity. You can currently get t3.micro capacity by not specifying an Availability Zone in your request or choosing eu-west-1b, eu-west-1c.", 0, "",
		},
		"in another zone":        {[]Shortage{{Zone: "eu-west-1a"}}, []func(*ec2.RunInstancesInput){inZone("eu-west-1b")}, "", "", 1, "eu-west-1b"},
		"in all zones but one":   {[]Shortage{{Zone: "eu-west-1[ab]"}, {Zone: "*a"}, {Zone: "*b"}}, nil, "", "", 1, "eu-west-1c"},
		"in all zones":           {[]Shortage{{}}, nil, InsufficientInstanceCapacity, "We currently do not have sufficient t3.micro capacity in zones with support for 'gp3' volumes. Our system will be working on provisioning additional capacity.", 0, ""},
		"of another type":        {[]Shortage{{InstanceType: "m5.*"}}, nil, "", "", 1, ""},
		"of Spot Instances only": {[]Shortage{{Lifecycle: "spot"}}, nil, "", "", 1, ""},
		"of Spot Instances":      {[]Shortage{{Lifecycle: "spot"}}, []func(*ec2.RunInstancesInput){onSpot}, InsufficientInstanceCapacity, "There is no Spot capacity available that matches your request.", 0, ""},
		"not in the zone ever": {
			[]Shortage{{Zone: "*a", Code: Unsupported}}, []func(*ec2.RunInstancesInput){inZone("eu-west-1a")}, Unsupported,
			"Your requested instance type (t3.micro) is not supported in your requested Availability Zone (eu-west-1a). Please retry your request by not specifying an Availability Zone or choosing eu-west-1b, eu-west-1c.", 0, "",
		},
		"the quota of Spot Instances": {[]Shortage{{Code: MaxSpotInstanceCountExceeded}}, []func(*ec2.RunInstancesInput){onSpot}, MaxSpotInstanceCountExceeded, "Max spot instance count exceeded", 0, ""},
		"the quota of vCPUs": {
			[]Shortage{{Code: VcpuLimitExceeded}}, nil, VcpuLimitExceeded,
			"You have requested more vCPU capacity than your current vCPU limit of ", 0, "",
		},
		"the price of Spot Instances": {
			[]Shortage{{Code: SpotMaxPriceTooLow}}, []func(*ec2.RunInstancesInput){onSpot}, SpotMaxPriceTooLow,
			"Your Spot request price of 0.0104 is lower than the minimum required Spot request fulfillment price of 0.0208.", 0, "",
		},
		"room for some": {[]Shortage{{Room: 2}}, []func(*ec2.RunInstancesInput){func(in *ec2.RunInstancesInput) { in.MaxCount = aws.Int32(5) }}, "", "", 2, ""},
		"room for too few": {[]Shortage{{Room: 2}}, []func(*ec2.RunInstancesInput){func(in *ec2.RunInstancesInput) { in.MinCount, in.MaxCount = aws.Int32(3), aws.Int32(5) }},
			InsufficientInstanceCapacity, "We currently do not have sufficient t3.micro capacity in zones", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.shortages(test.rules...)
			in := single(image)
			for _, change := range test.ask {
				change(in)
			}
			out, err := w.RunInstances(t.Context(), in)
			if test.code != "" {
				refused(t, err, test.code)
				if err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("the error is\n%v\nwant\n%s", err, test.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := *out.Instances[0].Placement.AvailabilityZone; len(out.Instances) != test.count || test.zone != "" && got != test.zone {
				t.Errorf("%d instances run in %s, want %d in %s", len(out.Instances), got, test.count, test.zone)
			}
		})
	}
}

func TestCapacityComesBack(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	w.shortages(Shortage{Zone: "eu-west-1a", Times: 2}, Shortage{Zone: "eu-west-1b", Room: 1})
	a, b := single(image), single(image)
	inZone("eu-west-1a")(a)
	inZone("eu-west-1b")(b)
	for range 2 {
		_, err := w.RunInstances(t.Context(), a)
		refused(t, err, InsufficientInstanceCapacity)
	}
	w.run(a)
	id := w.run(b)[0]
	b.ClientToken = nil // which the client has set
	_, err := w.RunInstances(t.Context(), b)
	refused(t, err, InsufficientInstanceCapacity)

	w.untilRunning(id)
	if _, err := w.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilStopped(id)
	_, err = w.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}})
	refused(t, err, InsufficientInstanceCapacity)
	w.shortages()
	if _, err := w.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Error(err)
	}
}

func TestGroupsMeetShortages(t *testing.T) {
	w := newWorld(t)
	w.shortages(Shortage{InstanceType: "t3.micro"})
	w.books.Do(func() {
		fleet := w.service.Fleet("eu-west-1")
		ref := hello(t, w.service)
		if _, err := fleet.Template(ref, ""); err != nil {
			t.Errorf("a template is not good where there is no capacity: %v", err)
		}
		_, err := fleet.Launch(t.Context(), LaunchOrder{Template: ref, Count: 1, SubnetID: fleet.Subnets()[0].ID})
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != InsufficientInstanceCapacity {
			t.Errorf("a launch without capacity gave %v", err)
		}
		if _, err := fleet.Launch(t.Context(), LaunchOrder{Template: ref, Count: 1, InstanceType: "m5.large", SubnetID: fleet.Subnets()[0].ID}); err != nil {
			t.Errorf("a launch of another type gave %v", err)
		}
	})
}

func TestShortagesThatCannotBe(t *testing.T) {
	w := newWorld(t)
	for text, rule := range map[string]Shortage{
		"no such type":               {InstanceType: "x9.*"},
		"is not known":               {Code: "NoCapacity"},
		`lifecycle "on demand"`:      {Lifecycle: "on demand"},
		"is of Spot Instances":       {Code: MaxSpotInstanceCountExceeded, Lifecycle: "on-demand"},
		"neither can be less than 0": {Room: -1},
	} {
		if err := w.service.SetShortages("eu-west-1", rule); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v gave %v, want an error with %q", rule, err, text)
		}
	}
}

func TestSpotPriceIsMet(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	onSpot(in)
	in.InstanceMarketOptions.SpotOptions = &types.SpotMarketOptions{MaxPrice: aws.String("0.002")}
	_, err := w.RunInstances(t.Context(), in)
	refused(t, err, SpotMaxPriceTooLow)
	in.InstanceMarketOptions.SpotOptions.MaxPrice = aws.String("0.01")
	w.run(in)
}

func TestOfferings(t *testing.T) {
	w := newWorld(t)
	w.shortages(Shortage{InstanceType: "t3.*", Zone: "eu-west-1b", Code: Unsupported}, Shortage{Zone: "eu-west-1a"})
	for kind, want := range map[types.LocationType][]string{
		types.LocationTypeRegion:             {"eu-west-1"},
		types.LocationTypeAvailabilityZone:   {"eu-west-1a", "eu-west-1c"},
		types.LocationTypeAvailabilityZoneId: {"euw1-az1", "euw1-az3"},
	} {
		out, err := w.DescribeInstanceTypeOfferings(t.Context(), &ec2.DescribeInstanceTypeOfferingsInput{
			LocationType: kind, Filters: []types.Filter{{Name: aws.String("instance-type"), Values: []string{"t3.micro"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range out.InstanceTypeOfferings {
			got = append(got, *o.Location)
		}
		if !slices.Equal(got, want) {
			t.Errorf("offered by %s in %v, want %v", kind, got, want)
		}
	}
	pages, count := ec2.NewDescribeInstanceTypeOfferingsPaginator(w, &ec2.DescribeInstanceTypeOfferingsInput{LocationType: types.LocationTypeAvailabilityZone, MaxResults: aws.Int32(7)}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.InstanceTypeOfferings)
	}
	t3s := 0
	for name := range instanceTypes {
		if strings.HasPrefix(name, "t3.") {
			t3s++
		}
	}
	if want := 3*len(instanceTypes) - t3s; count != want {
		t.Errorf("paged through %d offerings, want %d", count, want)
	}
}
