// Package version holds the plugin's version, which Packer asks for with `describe`.
package version

import "github.com/hashicorp/packer-plugin-sdk/version"

var (
	// Version is the semantic version of this release.
	Version = "0.1.0"

	// Prerelease is "dev" between releases and empty in one; the release
	// build sets it with the linker.
	Prerelease = "dev"

	// Metadata is build metadata, empty in a release.
	Metadata = ""

	// Plugin is what the SDK hands to Packer.
	Plugin = version.NewPluginVersion(Version, Prerelease, Metadata)
)
