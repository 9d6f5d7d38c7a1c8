package ec2

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

// metadata answers what an instance asks its metadata service, but for user
// data, which the machine's host gives out itself. The books must not be held
// when the function is called.
func (s *Service) metadata(regionName, id string) func(path string) (string, bool) {
	return func(path string) (content string, found bool) {
		s.books.Read(func() {
			r := s.in(regionName)
			i := r.Instances[id]
			if i == nil {
				return
			}
			content, found = machine.Tree(r.metadataLeaves(i))(path)
		})
		return content, found
	}
}

// metadataOptions gives the options of an instance's metadata service as they
// are when it is called, which the books must not be held at. How far a token
// goes is as many hops as its option says.
func (s *Service) metadataOptions(regionName, id string) func() machine.MetadataOptions {
	return func() (options machine.MetadataOptions) {
		s.books.Read(func() {
			if i := s.in(regionName).Instances[id]; i != nil {
				options = machine.MetadataOptions{
					Disabled: i.Metadata.HttpEndpoint == "disabled", TokenOptional: i.Metadata.HttpTokens == "optional",
					HopLimit: orZero(i.Metadata.HttpPutResponseHopLimit),
				}
			}
		})
		return options
	}
}

// metadataLeaves are the categories of
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html#instancedata-data-categories
// that an instance here has.
func (r *region) metadataLeaves(i *instance) map[string]string {
	mac := macOf(i.Address)
	name, address := r.hostname(i.Address), i.Address.String()
	var groups []string
	for _, group := range r.groupItems(i.SecurityGroupIds) {
		groups = append(groups, group.GroupName)
	}
	leaves := map[string]string{
		"dynamic/instance-identity/document":    r.identity(i),
		"meta-data/ami-id":                      i.ImageId,
		"meta-data/ami-launch-index":            strconv.Itoa(i.LaunchIndex),
		"meta-data/block-device-mapping/ami":    i.RootDeviceName,
		"meta-data/block-device-mapping/root":   i.RootDeviceName,
		"meta-data/hostname":                    name,
		"meta-data/instance-action":             "none",
		"meta-data/instance-id":                 i.Id,
		"meta-data/instance-life-cycle":         "on-demand",
		"meta-data/instance-type":               i.Type,
		"meta-data/local-hostname":              name,
		"meta-data/local-ipv4":                  address,
		"meta-data/mac":                         mac,
		"meta-data/placement/availability-zone": i.Zone,
		"meta-data/placement/region":            r.name,
		"meta-data/reservation-id":              i.ReservationId,
		"meta-data/security-groups":             strings.Join(groups, "\n"),
		"meta-data/services/domain":             "amazonaws.com",
		"meta-data/services/partition":          "aws",
	}
	if public := i.publicAddress(); public != "" {
		leaves["meta-data/public-hostname"], leaves["meta-data/public-ipv4"] = public, public
	}
	if s := r.Subnets[i.SubnetId]; s != nil {
		leaves["meta-data/placement/availability-zone-id"] = s.ZoneId
		network := "meta-data/network/interfaces/macs/" + mac + "/"
		for leaf, content := range map[string]string{
			"device-number": "0", "interface-id": i.Interface.Id, "local-hostname": name, "local-ipv4s": address, "mac": mac,
			"owner-id": api.Account, "security-group-ids": strings.Join(i.SecurityGroupIds, "\n"), "security-groups": strings.Join(groups, "\n"),
			"subnet-id": s.Id, "subnet-ipv4-cidr-block": s.Cidr.String(), "vpc-id": r.Vpc.Id, "vpc-ipv4-cidr-block": r.Vpc.Cidr.String(),
		} {
			leaves[network+leaf] = content
		}
	}
	if key := r.keyPairNamed(i.Launch.KeyName); i.Launch.KeyName != "" && key != nil {
		leaves["meta-data/public-keys/0="+key.Name+"/openssh-key"] = key.PublicKey
	}
	maps.Copy(leaves, i.pushedLeaves(r.service.clock.Now()))
	if i.Metadata.InstanceMetadataTags == "enabled" {
		for key, value := range i.Tags {
			leaves["meta-data/tags/instance/"+key] = value
		}
	}
	return leaves
}

// identity is the instance identity document.
func (r *region) identity(i *instance) string {
	document, err := json.MarshalIndent(struct {
		AccountID        string  `json:"accountId"`
		Architecture     string  `json:"architecture"`
		AvailabilityZone string  `json:"availabilityZone"`
		BillingProducts  *string `json:"billingProducts"`
		ImageID          string  `json:"imageId"`
		InstanceID       string  `json:"instanceId"`
		InstanceType     string  `json:"instanceType"`
		PendingTime      string  `json:"pendingTime"`
		PrivateIP        string  `json:"privateIp"`
		Region           string  `json:"region"`
		Version          string  `json:"version"`
	}{
		AccountID: api.Account, Architecture: i.Architecture, AvailabilityZone: i.Zone, ImageID: i.ImageId, InstanceID: i.Id,
		InstanceType: i.Type, PendingTime: i.Launched.Format("2006-01-02T15:04:05Z"), PrivateIP: i.Address.String(),
		Region: r.name, Version: "2017-09-30",
	}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("ec2: an identity document is not JSON: %v", err))
	}
	return string(document)
}

var metadataTagKey = regexp.MustCompile(`^[0-9a-zA-Z\-_+=,.@:]{1,255}$`)

// fitMetadata refuses tags that the metadata service could not show, of an
// instance whose options have it show them
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html).
func (t tags) fitMetadata(options metadataOptions) error {
	if options.InstanceMetadataTags != "enabled" {
		return nil
	}
	for _, key := range t.keys() {
		if !metadataTagKey.MatchString(key) || key == "." || key == ".." || key == "_index" {
			return fail("InvalidParameterValue", "'%s' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')", key)
		}
	}
	return nil
}
