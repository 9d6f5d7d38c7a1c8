package ec2

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// page is what EC2 knows in one region, apart from its snapshots and volumes'
// contents, which package storage keeps. What the maps point to is changed
// with the books held only. The slices and pointers within are never changed
// but replaced, because answers on their way to the wire may share them.
type page struct {
	Sequence            int64 // of the resource made last
	EncryptionByDefault bool
	Vpc                 *vpc
	Subnets             map[string]*subnet
	SecurityGroups      map[string]*securityGroup
	KeyPairs            map[string]*keyPair
	Images              map[string]*image
	Volumes             map[string]*volume
	Instances           map[string]*instance
	LaunchTemplates     map[string]*launchTemplate
	ServiceInterfaces   map[string]*serviceInterface
	Fleets              map[string]*fleetRequest
	Requests            map[string]*request
}

// resource is what every resource has.
type resource struct {
	Id       string
	Sequence int64 // in the order of creation
	Created  time.Time
	Tags     tags // never nil

	// VisibleAt is when callers see the resource; zero if at once.
	VisibleAt time.Time `json:",omitzero"`
}

func (r *resource) base() *resource { return r }

// unseen tells whether callers do not see the resource yet: "its ID might not
// have propagated throughout the system, and you will get an error responding
// that the resource does not exist"
// (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
func (r *resource) unseen() bool { return time.Now().Before(r.VisibleAt) }

// seen finds a resource that callers see.
func seen[T interface{ base() *resource }](all map[string]T, id string) (T, bool) {
	found, ok := all[id]
	if ok && found.base().unseen() {
		var none T
		return none, false
	}
	return found, ok
}

// region is one region's page while the books are held.
type region struct {
	*page
	name    string
	service *Service

	visibleAt time.Time // of what the call in hand creates
}

func (r *region) now() time.Time { return r.service.clock.Now() }

// newResource makes what a new resource of the kind has.
func (r *region) newResource(kind string, with tags) resource {
	r.Sequence++
	own := tags{}
	maps.Copy(own, with)
	return resource{Id: api.NewID(kind), Sequence: r.Sequence, Created: r.now(), Tags: own, VisibleAt: r.visibleAt}
}

// arn names a resource of the callers' account, as IAM does.
func (r *region) arn(kind, id string) string {
	account := api.Account
	if kind == "image" || kind == "snapshot" {
		account = "" // https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
	}
	return fmt.Sprintf("arn:aws:ec2:%s:%s:%s/%s", r.name, account, kind, id)
}

// kinds are the resource types, by the prefix of their ids.
var kinds = map[string]string{
	"ami":    "image",
	"eni":    "network-interface",
	"fleet":  "fleet",
	"i":      "instance",
	"key":    "key-pair",
	"lt":     "launch-template",
	"sg":     "security-group",
	"sir":    "spot-instances-request",
	"snap":   "snapshot",
	"subnet": "subnet",
	"vol":    "volume",
	"vpc":    "vpc",
}

func kindOf(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	return kinds[prefix]
}

func (r *resource) kind() string { return kindOf(r.Id) }

// resource finds a resource that can be tagged.
func (r *region) resource(id string) (*resource, error) {
	switch kindOf(id) {
	case "fleet":
		return r.fleet(id)
	case "image":
		return baseOf(r.visibleImage(id))
	case "instance":
		return baseOf(r.instance(id))
	case "key-pair":
		return baseOf(r.keyPair(id, ""))
	case "launch-template":
		return baseOf(r.template(launchTemplateRef{LaunchTemplateId: id}))
	case "security-group":
		return baseOf(r.securityGroup(id))
	case "snapshot":
		return baseOf(r.visibleSnapshot(id)) // others' too, as images; the tags are the caller's own
	case "subnet":
		return baseOf(r.subnet(id))
	case "network-interface":
		return r.networkInterface(id)
	case "spot-instances-request":
		return r.spotRequest(id)
	case "volume":
		return baseOf(r.volume(id))
	case "vpc":
		return baseOf(r.vpc(id))
	}
	return nil, fail("InvalidID", "The ID '%s' is not valid", id)
}

func baseOf[T interface{ base() *resource }](found T, err error) (*resource, error) {
	if err != nil {
		return nil, err
	}
	return found.base(), nil
}

// resources gives everything that bears tags.
func (r *region) resources() iter.Seq[*resource] {
	return func(yield func(*resource) bool) {
		_ = yield(r.Vpc.base()) &&
			each(r.Subnets, yield) && each(r.SecurityGroups, yield) && each(r.KeyPairs, yield) &&
			each(r.Images, yield) && each(r.snapshots(), yield) && each(r.Volumes, yield) &&
			each(r.Instances, yield) && each(r.interfaces(), yield) && each(r.spotRequests(), yield) && each(r.Fleets, yield) && each(r.LaunchTemplates, yield)
	}
}

// interfaces are the network interfaces of the instances that have not ended.
func (r *region) interfaces() map[string]*resource {
	all := map[string]*resource{}
	for _, i := range r.Instances {
		if !i.ended() {
			all[i.Interface.Id] = &i.Interface
		}
	}
	return all
}

func (r *region) networkInterface(id string) (*resource, error) {
	if found := r.interfaces()[id]; found != nil {
		return found, nil
	}
	return nil, fail("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
}

func each[T interface{ base() *resource }](all map[string]T, yield func(*resource) bool) bool {
	for _, one := range all {
		if !yield(one.base()) {
			return false
		}
	}
	return true
}

// ordered lists resources in the order of their creation.
func ordered[T interface{ base() *resource }](all map[string]T) []T {
	return slices.SortedFunc(maps.Values(all), func(a, b T) int {
		return cmp.Or(cmp.Compare(a.base().Sequence, b.base().Sequence), strings.Compare(a.base().Id, b.base().Id))
	})
}

// place is where a resource comes in the order of creation.
func (r *resource) place() string { return fmt.Sprintf("%020d %s", r.Sequence, r.Id) }

// wellFormed refuses what cannot be the id of a kind, under the given code. Ids
// have 17 hexadecimal digits, those made before 2018 have 8.
func wellFormed(id, prefix, code string) error {
	digits, ok := strings.CutPrefix(id, prefix+"-")
	if !ok || len(digits) != 8 && len(digits) != 17 || strings.Trim(digits, "0123456789abcdef") != "" {
		return fail(code, `Invalid id: "%s" (expecting "%s-...")`, id, prefix)
	}
	return nil
}

// fixedID is the id of a resource that every sandbox has in a region, which is
// the same in every sandbox.
func fixedID(prefix string, of ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(of, "/")))
	return prefix + "-0" + hex.EncodeToString(sum[:8])
}

// stamp is a time as filters and some attributes have it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func quoteAll(words []string) string { return "'" + strings.Join(words, "', '") + "'" }
