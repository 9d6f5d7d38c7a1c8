package ssm_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ssm"
)

func TestWhatCallersMustBePermitted(t *testing.T) {
	books, clock, notes := doortest.Books(t), doortest.Clock(t), &doortest.Notes{}
	service, err := ssm.New(books, clock)
	if err != nil {
		t.Fatal(err)
	}
	client := awsssm.NewFromConfig(doortest.Config(doortest.ServerOf(t, door.Config{Books: books, Clock: clock, Guard: notes, Services: []*api.Service{service.API()}})))
	const parameters, keys = "arn:aws:ssm:eu-west-1:123456789012:parameter/", "arn:aws:kms:eu-west-1:123456789012:key/"
	secret := func(name, key string) error {
		_, err := client.PutParameter(t.Context(), &awsssm.PutParameterInput{Name: &name, Value: aws.String("x"), Type: types.ParameterTypeSecureString, KeyId: &key})
		return err
	}
	get := func(name string) error {
		_, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
		return err
	}
	for _, test := range []struct {
		name string
		call func() error
		want []string
	}{
		{"a secret under AWS's own key", func() error { return secret("/web/own", "alias/aws/ssm") }, []string{"ssm:PutParameter " + parameters + "web/own"}},
		{"a secret under a key", func() error { return secret("/web/key", "0ab1") }, []string{"kms:Encrypt " + keys + "0ab1", "ssm:PutParameter " + parameters + "web/key"}},
		{"a secret under an alias", func() error { return secret("/web/alias", "alias/web") }, []string{"kms:Encrypt " + keys + "*", "ssm:PutParameter " + parameters + "web/alias"}},
		{"read under AWS's own key", func() error { return get("/web/own") }, []string{"ssm:GetParameter " + parameters + "web/own"}},
		{"read under a key", func() error { return get("/web/key") }, []string{"kms:Decrypt " + keys + "0ab1", "ssm:GetParameter " + parameters + "web/key"}},
		{"read by path", func() error {
			_, err := client.GetParametersByPath(t.Context(), &awsssm.GetParametersByPathInput{Path: aws.String("/web/")})
			return err
		}, []string{"ssm:GetParametersByPath " + parameters + "web"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.call(); err != nil {
				t.Fatal(err)
			}
			if got := notes.Take(); !slices.Equal(got, test.want) {
				t.Errorf("notes %q, want %q", got, test.want)
			}
		})
	}
}
