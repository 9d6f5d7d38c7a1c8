package ec2

import "github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"

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

func (r *region) enableEncryptionByDefault(c *api.Call, _ *nothing) (*encryptionByDefaultOutput, error) {
	c.On("*")
	r.EncryptionByDefault = true
	return &encryptionByDefaultOutput{true}, nil
}

func (r *region) disableEncryptionByDefault(c *api.Call, _ *nothing) (*encryptionByDefaultOutput, error) {
	c.On("*")
	r.EncryptionByDefault = false
	return &encryptionByDefaultOutput{false}, nil
}
