package main

import (
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/builder/direct"
	"github.com/immutable-server/packer-plugin-immutable/builder/disk"
	"github.com/immutable-server/packer-plugin-immutable/builder/existing"
	"github.com/immutable-server/packer-plugin-immutable/datasource/base"
	"github.com/immutable-server/packer-plugin-immutable/post-processor/rollout"
	"github.com/immutable-server/packer-plugin-immutable/post-processor/tag"
	"github.com/immutable-server/packer-plugin-immutable/provisioner/rpm"
)

// The other options don't matter: also the error of a bad configuration is
// logged.
func TestNoComponentLetsASecretIntoTheLog(t *testing.T) {
	builder := func(b packersdk.Builder) func(...any) error {
		return func(raws ...any) error {
			_, _, err := b.Prepare(raws...)
			return err
		}
	}
	for name, prepare := range map[string]func(...any) error{
		"immutable-direct":   builder(new(direct.Builder)),
		"immutable-disk":     builder(new(disk.Builder)),
		"immutable-existing": builder(new(existing.Builder)),
		"immutable-base":     new(base.Datasource).Configure,
		"immutable-rpm":      new(rpm.Provisioner).Prepare,
		"immutable-tag":      new(tag.PostProcessor).Configure,
		"immutable-rollout":  new(rollout.PostProcessor).Configure,
	} {
		t.Run(name, func(t *testing.T) {
			key, token, external := "the-secret-key-of-"+name, "the-token-of-"+name, "the-external-id-of-"+name
			if err := prepare(map[string]any{
				"access_key": "AKIAEXAMPLE", "secret_key": key, "token": token,
				"assume_role": map[string]any{"role_arn": "arn:aws:iam::123456789012:role/baker", "external_id": external},
			}); err != nil {
				t.Logf("refused, as it may be: %v", err)
			}
			logged := packersdk.LogSecretFilter.FilterString("called with " + key + ", " + token + " and " + external)
			for _, secret := range []string{key, token, external} {
				if strings.Contains(logged, secret) {
					t.Errorf("the log has %q", logged)
				}
			}
		})
	}
}
