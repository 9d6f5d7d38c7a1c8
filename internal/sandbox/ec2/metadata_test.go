package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/machine"
)

func TestMetadataOptionsTakeEffectOnARunningInstance(t *testing.T) {
	w := newWorld(t)
	older := w.ami("older")
	older.ImdsSupport = ""
	made, err := w.RegisterImage(t.Context(), older)
	if err != nil {
		t.Fatal(err)
	}
	of := func(image string) (string, machine.MetadataOptions) {
		id := w.run(single(image))[0]
		w.untilRunning(id)
		return id, w.service.metadataOptions("eu-west-1", id)()
	}
	if _, got := of(*made.ImageId); got != (machine.MetadataOptions{TokenOptional: true, HopLimit: 1}) {
		t.Errorf("the options of an image without imds-support are %+v", got)
	}
	id, got := of(w.image("newer"))
	if got != (machine.MetadataOptions{HopLimit: 2}) {
		t.Errorf("the options of an image with imds-support v2.0 are %+v", got)
	}
	_, err = w.ModifyInstanceMetadataOptions(t.Context(), &ec2.ModifyInstanceMetadataOptionsInput{
		InstanceId: &id, HttpEndpoint: types.InstanceMetadataEndpointStateDisabled, HttpTokens: types.HttpTokensStateOptional, HttpPutResponseHopLimit: aws.Int32(5),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.service.metadataOptions("eu-west-1", id)(); got != (machine.MetadataOptions{Disabled: true, TokenOptional: true, HopLimit: 5}) {
		t.Errorf("the options that were modified are %+v", got)
	}
}
