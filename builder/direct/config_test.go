package direct

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/builder/ami"
)

// prepare prepares the options and a name and a region, if they give none.
func prepare(t *testing.T, options map[string]any) (Builder, error) {
	t.Helper()
	t.Setenv("AWS_REGION", "eu-west-1")
	all := map[string]any{"ami_name": "hello"}
	maps.Copy(all, options)
	var b Builder
	_, _, err := b.Prepare(all)
	return b, err
}

func TestPrepareNamesOptionValueAndRemedy(t *testing.T) {
	local := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(local, []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	type options = map[string]any
	for name, c := range map[string]struct {
		options options
		wants   string
	}{
		"no name":                         {options{"ami_name": ""}, "ami_name is not given"},
		"a name with a colon":             {options{"ami_name": "hello:1"}, `ami_name "hello:1" has the character ":"`},
		"an unknown region":               {options{"region": "eu-wst-1"}, `region "eu-wst-1"`},
		"two bases":                       {options{"source_ami": "ami-0123456789abcdef0", "source_image": local}, "source_ami and source_image are given together"},
		"an option that there is not":     {options{"source_amis": "x"}, "source_amis"},
		"another IMDS":                    {options{"imds_support": "v3"}, `imds_support is "v3"; it is "v2.0" or "legacy"`},
		"another boot mode":               {options{"boot_mode": "grub"}, `boot_mode is "grub"`},
		"BIOS on arm64":                   {options{"architecture": "arm64", "boot_mode": "legacy-bios"}, "which no arm64 instance has"},
		"deleting without deregistering":  {options{"force_delete_snapshot": true}, "force_delete_snapshot is true without force_deregister"},
		"a deprecation that is no time":   {options{"deprecate_at": "tomorrow"}, `deprecate_at is "tomorrow"`},
		"a deprecation in the past":       {options{"deprecate_at": "2020-01-01T00:00:00Z"}, "from now to 10 years on"},
		"a key without encryption":        {options{"kms_key_id": "alias/foo"}, "kms_key_id is given without encrypt_boot"},
		"a key that is none":              {options{"encrypt_boot": true, "kms_key_id": "my key"}, `kms_key_id is "my key"`},
		"an alias for a local base":       {options{"encrypt_boot": true, "kms_key_id": "alias/foo", "source_image": local}, "the key's ARN"},
		"an account that is none":         {options{"ami_users": []string{"all"}}, `ami_users has "all"`},
		"an organization that is none":    {options{"ami_org_arns": []string{"o-1"}}, `ami_org_arns has "o-1"`},
		"sharing under the default key":   {options{"encrypt_boot": true, "ami_users": []string{"210987654321"}}, "set kms_key_id"},
		"a negative size":                 {options{"volume_size": -1}, "volume_size is -1"},
		"a type that can't be a root":     {options{"volume_type": "st1"}, `volume_type is "st1"`},
		"io2 without IOPS":                {options{"volume_type": "io2"}, "needs iops"},
		"IOPS without a choice":           {options{"volume_type": "gp2", "iops": 4000}, "has no choice"},
		"a template that can't be parsed": {options{"tags": map[string]string{"Base": "{{ .SourceAMI"}}, "invalid 'tags'"},
		"a template of nothing":           {options{"ami_description": "{{ .Nothing }}"}, "ami_description"},
		"a tag that only AWS may write":   {options{"tags": map[string]string{"aws:name": "x"}}, "aws:"},
		"a tag too long for a snapshot":   {options{"tags": map[string]string{"Long": strings.Repeat("x", 256)}}, "the value has 256 characters and a snapshot made by EBS direct allows 255"},
		"a key too long for a snapshot":   {options{"snapshot_tags": map[string]string{strings.Repeat("k", 128): "x"}}, "has 128 characters and a snapshot made by EBS direct allows 127"},
		"a secret key alone":              {options{"secret_key": "hunter2hunter2"}, "access_key and secret_key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prepare(t, c.options)
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Fatalf("Prepare gave %v, want %q", err, c.wants)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error gives a secret away")
			}
		})
	}
}

func TestOnlyANameIsNeeded(t *testing.T) {
	b, err := prepare(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := b.config; c.Region != "eu-west-1" || c.ImdsSupport != "v2.0" || c.Machine != "chroot" || !c.FromAWS() {
		t.Errorf("defaults are %+v", c)
	}
}

func TestTheNameCanBeATemplate(t *testing.T) {
	b, err := prepare(t, map[string]any{"ami_name": `hello-{{ isotime "2006" }}-{{ clean_resource_name "a:b" }}`})
	if want := "hello-" + time.Now().UTC().Format("2006") + "-a-b"; err != nil || b.config.AmiName != want {
		t.Errorf("the name is %q, %v; want %q", b.config.AmiName, err, want)
	}
}

func TestTheSnapshotHasTheAMIsTagsAndItsOwn(t *testing.T) {
	b, err := prepare(t, map[string]any{
		"tags":          map[string]string{"Name": "hello", "Base": "{{ .SourceAMIName }}", "Os": "{{ .SourceAMITags.Os }}"},
		"snapshot_tags": map[string]string{"Name": "root of {{ .SourceAMI }}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.config.Render(ami.Data{SourceAMI: "ami-1", SourceAMIName: "al2023", SourceAMITags: map[string]string{"Os": "linux"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"Name": "hello", "Base": "al2023", "Os": "linux"}; !maps.Equal(got.Tags, want) {
		t.Errorf("tags are %v, want %v", got.Tags, want)
	}
	if want := map[string]string{"Name": "root of ami-1", "Base": "al2023", "Os": "linux"}; !maps.Equal(got.SnapshotTags, want) {
		t.Errorf("snapshot tags are %v, want %v", got.SnapshotTags, want)
	}
}
