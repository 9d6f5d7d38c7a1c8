package ec2

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

func TestFleetOfTenThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		instant, err := clock.New(clock.Instant, 1)
		if err != nil {
			t.Fatal(err)
		}
		books := doortest.Books(t)
		s := newService(t, books, instant, machine.None(), nil)
		defer s.Close(t.Context())
		defer instant.Stop()
		fleet := s.Fleet("eu-west-1")
		terminated := 0
		defer fleet.Subscribe(func(c StateChange) {
			if c.To == Terminated {
				terminated++
			}
		})()
		var ids []string
		books.Do(func() {
			ref := hello(t, s)
			subnets := fleet.Subnets()
			for n := range 10000 {
				members, err := fleet.Launch(t.Context(), LaunchOrder{
					Template: ref, Count: 1, SubnetID: subnets[n%len(subnets)].ID, Tags: map[string]string{"aws:autoscaling:groupName": "hello"},
				})
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, members[0].ID)
			}
		})
		synctest.Wait()
		time.Sleep(time.Second)
		books.Do(func() {
			for _, id := range ids {
				if m, ok := fleet.Member(id); !ok || m.State != Running || m.Template.Version != 1 {
					t.Fatalf("member %s is %+v", id, m)
				}
				if err := fleet.Terminate(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		if terminated != len(ids) {
			t.Errorf("heard of %d terminated instances, want %d", terminated, len(ids))
		}
		books.Read(func() {
			if left := len(s.in("eu-west-1").Volumes); left > 0 {
				t.Errorf("%d volumes are left", left)
			}
			for _, place := range s.in("eu-west-1").Subnets {
				if free := s.addresses.free(place.Cidr); free != 4091 {
					t.Errorf("%d addresses of %s are free", free, place.Id)
				}
			}
		})
	})
}

func TestFleetTemplate(t *testing.T) {
	w := newWorld(t)
	w.books.Do(func() {
		ref := hello(t, w.service)
		fleet := w.service.Fleet("eu-west-1")
		got, err := fleet.Template(ref, "")
		if err != nil || got.Name != "hello" || got.Version != 1 || got.InstanceType != "t3.micro" || got.ImageID == "" || got.FromSSM {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err := fleet.Template(ref, "m5.large"); err != nil || got.InstanceType != "m5.large" {
			t.Errorf("with another type got %+v, %v", got, err)
		}
		for code, test := range map[string]struct {
			ref  TemplateRef
			kind string
		}{
			"InvalidLaunchTemplateId.VersionNotFound":     {TemplateRef{Name: "hello", Version: "2"}, ""},
			"InvalidLaunchTemplateName.NotFoundException": {TemplateRef{Name: "world"}, ""},
			"InvalidParameterValue":                       {ref, "t4g.micro"},
		} {
			_, err := fleet.Template(test.ref, test.kind)
			if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != code {
				t.Errorf("got %v, want %s", err, code)
			}
		}
	})
}

func TestServiceTakesUpWhatItHadBegun(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	id := w.run(single(image))[0]
	w.untilRunning(id)
	address := *w.describeInstance(id).PrivateIpAddress
	w.books.Do(func() {
		r := w.service.in("eu-west-1")
		r.Instances[id].State = ShuttingDown
		r.Images[image].State = imagePending
		*w.service.addresses = *newAddresses()
		if err := r.resume(); err != nil {
			t.Error(err)
		}
		if got := r.Images[image].State; got != imageAvailable {
			t.Errorf("the image is %s", got)
		}
		if !w.service.addresses.taken[r.Instances[id].Address] {
			t.Errorf("the address %s is not taken", address)
		}
	})
	w.untilTerminated(id)
}
