package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// TestExistingIsHandedOn finds the AMIs of two regions and hands them to
// post-processors: each takes that of its own region, and none says that they
// are made from this commit.
func TestExistingIsHandedOn(t *testing.T) {
	t.Parallel()
	const far = "us-east-1"
	h := newTheatre(t, "--regions", rehearsal.Region+","+far)
	g := h.newGroup(t, "existing", takeName(t, h.box, "before"), 0)
	amis := map[string]string{}
	for _, region := range []string{rehearsal.Region, far} {
		amis[region] = h.copyBase(t, region, "web", map[string]string{"App": "web", "Source/CommitId": "0ab1"})
	}
	manifest := filepath.Join(t.TempDir(), "manifest.json")
	output, err := h.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: h.box.Environ(other), Args: []string{"build", templateFile(t, fmt.Sprintf(`
source "immutable-existing" "x" {
  tags    = { App = "web" }
  regions = [%q, %q]
}
build {
  sources = ["source.immutable-existing.x"]
  post-processors {
    post-processor "immutable-tag" {
      tags = { Stage = "tested" }
    }
    post-processor "immutable-rollout" {
      auto_scaling_group = "existing"
      region             = %q
    }
  }
  post-processor "manifest" { output = %q }
}
`, far, rehearsal.Region, rehearsal.Region, manifest))}})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	says(t, output, []string{`AMIs were found:`, `it keeps the tags of the commit`})
	g.runs(t, amis[rehearsal.Region])
	for region, ami := range amis {
		if tags := h.tagsIn(t, region, ami); !maps.Equal(tags, map[string]string{"App": "web", "Source/CommitId": "0ab1", "Stage": "tested"}) {
			t.Errorf("%s in %s has the tags %v", ami, region, tags)
		}
	}
	text, err := os.ReadFile(manifest)
	must(t, err)
	var written struct {
		Builds []struct {
			ArtifactID string `json:"artifact_id"`
		}
	}
	must(t, json.Unmarshal(text, &written))
	if want := rehearsal.Region + ":" + amis[rehearsal.Region] + "," + far + ":" + amis[far]; len(written.Builds) != 1 || written.Builds[0].ArtifactID != want {
		t.Errorf("the manifest is %s, want the artifact %s", text, want)
	}
}

// TestExistingOutlivesAFailedBuild has the first post-processor fail, at which
// packer destroys the artifact.
func TestExistingOutlivesAFailedBuild(t *testing.T) {
	t.Parallel()
	h := newTheatre(t)
	ami := takeName(t, h.box, "web")
	before := h.everything(t)
	output, err := h.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: h.box.Environ(other), Args: []string{"build", templateFile(t, `
source "immutable-existing" "x" { ami_id = "`+ami+`" }
build {
  sources = ["source.immutable-existing.x"]
  post-processor "immutable-rollout" { auto_scaling_group = "nobody" }
}
`)}})
	if err == nil {
		t.Fatalf("the build succeeded:\n%s", output)
	}
	says(t, output, []string{`there is no group of that name`})
	if after := h.everything(t); !maps.Equal(before, after) {
		t.Errorf("there was %v, and is %v:\n%s", before, after, output)
	}
}

// TestDataSources makes a name and a version of what the data sources give.
func TestDataSources(t *testing.T) {
	t.Parallel()
	h := newTheatre(t)
	tree := aCheckout(t)
	hcl := templateFile(t, fmt.Sprintf(`
data "immutable-base" "x" { max_age = "1h" }
data "immutable-commit" "x" { path = %q }
locals {
  name    = "hello-${substr(data.immutable-commit.x.id, 0, 7)}-on-${data.immutable-base.x.release}"
  version = "${formatdate("YYYY.MM.DD", data.immutable-commit.x.committer_date)}-${data.immutable-commit.x.branch}"
  tags    = merge(data.immutable-commit.x.tags, { Base = data.immutable-base.x.id })
}
source "null" "x" { communicator = "none" }
build {
  name    = local.name
  sources = ["source.null.x"]
  provisioner "shell-local" {
    inline = ["echo version ${local.version} kernel ${data.immutable-base.x.kernel} tags ${length(local.tags)} commit ${local.tags["Source/CommitId"]}"]
  }
}
`, tree))
	output, err := h.Packer(t.Context(), rehearsal.Packer{Dir: root, Env: h.box.Environ(other), Args: []string{"build", hcl}})
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	id := strings.TrimSpace(run(t, tree, "git", "rev-parse", "HEAD"))
	says(t, output, []string{`hello-` + id[:7] + `-on-2023\.9\.20251105\.0`, `version 2026\.03\.02-main kernel 6\.18 tags \d+ commit ` + id})
}

// aCheckout is a git work tree with a commit.
func aCheckout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "git", "init", "-q", "-b", "main")
	run(t, dir, "env", "GIT_COMMITTER_DATE=2026-03-02T11:00:00Z", "git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "--allow-empty", "-m", "Open the door")
	return dir
}

// copyBase makes an AMI of this account in a region.
func (h *theatre) copyBase(t *testing.T, region, name string, tags map[string]string) string {
	t.Helper()
	client := h.in(region)
	public, err := client.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	must(t, err)
	copied, err := client.CopyImage(t.Context(), &ec2.CopyImageInput{
		Name: &name, SourceImageId: public.Images[0].ImageId, SourceRegion: &region,
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeImage, Tags: tagsOf(tags)}},
	})
	must(t, err)
	waiter := ec2.NewImageAvailableWaiter(client, func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay = 100 * time.Millisecond })
	must(t, waiter.Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*copied.ImageId}}, time.Minute))
	return *copied.ImageId
}

func (h *theatre) in(region string) *ec2.Client {
	config := h.box.Config()
	config.Region = region
	return ec2.NewFromConfig(config)
}

func (h *theatre) tagsIn(t *testing.T, region, ami string) map[string]string {
	t.Helper()
	found, err := h.in(region).DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{ami}})
	must(t, err)
	return image.Tags(found.Images[0])
}
