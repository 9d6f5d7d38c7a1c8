// Package seal is the provisioner immutable-seal.
package seal

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config

import "github.com/hashicorp/packer-plugin-sdk/common"

// Config is what immutable-seal is told.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	// Items of the table above that are not to be cleaned, such as
	// `["locale"]` where the image is to have its own.
	Keep []string `mapstructure:"keep" required:"false"`
}
