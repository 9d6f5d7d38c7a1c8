package base

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

func TestPrepareNamesOptionValueAndRemedy(t *testing.T) {
	filter := image.Filter{Owners: []string{"amazon"}, Filters: map[string]string{"name": "al2023*"}}
	for name, c := range map[string]struct {
		config Config
		wants  string
	}{
		"two bases":                    {Config{Source: Source{SourceAmi: "ami-0123456789abcdef0", SourceAmiFilter: filter}}, "source_ami and source_ami_filter are given together"},
		"an ID that is none":           {Config{Source: Source{SourceAmi: "al2023"}}, `source_ami is "al2023"`},
		"a filter without owners":      {Config{Source: Source{SourceAmiFilter: image.Filter{Filters: filter.Filters}}}, "source_ami_filter has no owners"},
		"an unknown architecture":      {Config{Architecture: "amd64"}, `architecture is "amd64"; it must be one of x86_64, arm64`},
		"an unknown machine":           {Config{Machine: "vm"}, `machine is "vm"`},
		"a file that is not there":     {Config{SourceImage: "/nope.raw"}, "source_image: stat /nope.raw"},
		"a directory":                  {Config{SourceImage: "/"}, "is not a regular file"},
		"a URL without a checksum":     {Config{SourceImage: "https://example.com/disk.raw"}, "source_checksum is not given"},
		"a scheme that is not for it":  {Config{SourceImage: "s3://bucket/disk.raw", SourceChecksum: strings.Repeat("0", 64)}, "give the path of a file, or an https:// URL"},
		"a checksum that is none":      {Config{SourceImage: "https://example.com/disk.raw", SourceChecksum: "md5:12"}, `source_checksum is "md5:12"`},
		"a checksum of nothing":        {Config{SourceChecksum: strings.Repeat("0", 64)}, "source_checksum is given without source_image"},
		"a parameter and a local disk": {Config{Source: Source{SourceSsmParameter: "/base"}, SourceImage: "/etc/passwd"}, "source_image and source_ssm_parameter are given together"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []string
			for _, err := range c.config.Prepare() {
				all = append(all, err.Error())
			}
			if !strings.Contains(strings.Join(all, "\n"), c.wants) {
				t.Errorf("errors are %q, want %q", all, c.wants)
			}
		})
	}
}

func TestTheBaseIsAmazonLinuxOfTheHostsArchitectureByDefault(t *testing.T) {
	var c Config
	// What the host lacks is not the matter here.
	_ = c.Prepare()
	if c.Architecture != host() || c.Machine != "chroot" || !c.FromAWS() ||
		c.SourceSsmParameter != "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"+host() {
		t.Errorf("defaults are %+v", c)
	}
}

func TestALocalDiskNeedsNoAWS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if (Config{SourceImage: path}).FromAWS() {
		t.Error("a local disk is taken for an AMI")
	}
}
