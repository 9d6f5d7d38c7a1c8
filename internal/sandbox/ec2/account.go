package ec2

import (
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

type accountAttribute struct {
	AttributeName   string
	AttributeValues []attributeValueItem `wire:",attributeValueSet"`
}

type attributeValueItem struct{ AttributeValue string }

type describeAccountAttributesInput struct {
	AttributeNames []string `wire:"AttributeName"`
}

type describeAccountAttributesOutput struct {
	AccountAttributes []accountAttribute `wire:",accountAttributeSet"`
}

func (r *region) describeAccountAttributes(_ *api.Call, in *describeAccountAttributesInput) (*describeAccountAttributesOutput, error) {
	all := []accountAttribute{
		{"supported-platforms", []attributeValueItem{{"VPC"}}},
		{"default-vpc", []attributeValueItem{{r.Vpc.Id}}},
		{"max-instances", []attributeValueItem{{"20"}}},
		{"vpc-max-security-groups-per-interface", []attributeValueItem{{"5"}}},
	}
	all, err := only(all, in.AttributeNames, func(a accountAttribute) string { return a.AttributeName },
		"The account attribute '%s' is not known to the sandbox")
	return &describeAccountAttributesOutput{all}, err
}

type nothing struct{}

type encryptionByDefaultOutput struct{ EbsEncryptionByDefault bool }

func (r *region) getEncryptionByDefault(*api.Call, *nothing) (*encryptionByDefaultOutput, error) {
	return &encryptionByDefaultOutput{r.EncryptionByDefault}, nil
}

func (r *region) enableEncryptionByDefault(*api.Call, *nothing) (*encryptionByDefaultOutput, error) {
	r.EncryptionByDefault = true
	return &encryptionByDefaultOutput{true}, nil
}

func (r *region) disableEncryptionByDefault(*api.Call, *nothing) (*encryptionByDefaultOutput, error) {
	r.EncryptionByDefault = false
	return &encryptionByDefaultOutput{false}, nil
}

// EncryptionByDefault tells whether the account encrypts new volumes and
// snapshots in a region, and gives the key with which it does where no other is
// named. The books must be held.
func (s *Service) EncryptionByDefault(regionName string) (enabled bool, kmsKeyArn string) {
	r := s.in(regionName)
	return r.EncryptionByDefault, r.defaultKey()
}

// defaultKey is the key of a region that encrypts where no other is named.
func (r *region) defaultKey() string {
	return r.keyARN("key/" + strings.TrimPrefix(fixedID("", r.name), "-"))
}

func (r *region) keyARN(resource string) string {
	return "arn:aws:kms:" + r.name + ":" + api.Account + ":" + resource
}

// key gives the ARN of the key that a request names: by ARN, by id, by alias,
// or not at all. Keys are names here; there is none that does not exist.
func (r *region) key(named string) string {
	switch {
	case named == "" || named == "alias/aws/ebs":
		return r.defaultKey()
	case strings.HasPrefix(named, "arn:"):
		return named
	case strings.HasPrefix(named, "alias/"):
		return r.keyARN(named)
	}
	return r.keyARN("key/" + named)
}
