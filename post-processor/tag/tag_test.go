package tag

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

var _ packersdk.PostProcessor = (*PostProcessor)(nil)

// aTree is a git work tree with one commit, and outside of any CI service.
func aTree(t *testing.T) (dir string) {
	t.Helper()
	noCI(t)
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	dir = t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "--allow-empty", "-m", "Open the door"},
	} {
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

func noCI(t *testing.T) {
	for _, name := range []string{"CODEBUILD_BUILD_ID", "GITHUB_ACTIONS", "GITLAB_CI", "BITBUCKET_BUILD_NUMBER", "JENKINS_URL"} {
		t.Setenv(name, "")
	}
}

func soil(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigureReadsTheCommit(t *testing.T) {
	var p PostProcessor
	if err := p.Configure(map[string]any{"path": aTree(t)}); err != nil {
		t.Fatal(err)
	}
	if p.commit.Message != "Open the door\n" || p.commit.Branch != "main" || *p.commit.Dirty {
		t.Errorf("commit is %+v", p.commit)
	}
}

func TestConfigureNamesWhatIsWrong(t *testing.T) {
	tree := aTree(t)
	soiled := aTree(t)
	soil(t, soiled)
	for name, test := range map[string]struct {
		config map[string]any
		want   string
	}{
		"no commit":         {map[string]any{"path": t.TempDir()}, "set path to the git work tree, or require_commit = false"},
		"no such path":      {map[string]any{"path": filepath.Join(tree, "gone")}, "no such file"},
		"not clean":         {map[string]any{"path": soiled, "require_clean": true}, "differs from commit"},
		"a reserved prefix": {map[string]any{"path": tree, "prefix": "aws:"}, `prefix: tag "aws:RepositoryName": keys that start with "aws:"`},
		"a long prefix":     {map[string]any{"path": tree, "prefix": strings.Repeat("p", 120)}, "EC2 allows 128"},
		"a bad tag":         {map[string]any{"path": tree, "tags": map[string]string{"k": strings.Repeat("v", 257)}}, `tags: tag "k"`},
		"an unknown region": {map[string]any{"path": tree, "region": "eu-wset-1"}, "eu-wset-1"},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(PostProcessor).Configure(test.config)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestWhatTheUserAllowsIsNoError(t *testing.T) {
	soiled := aTree(t)
	soil(t, soiled)
	for name, config := range map[string]map[string]any{
		"no commit":             {"path": t.TempDir(), "require_commit": false},
		"a tree with changes":   {"path": soiled},
		"a region of one's own": {"path": soiled, "region": "eu-west-9", "skip_region_validation": true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := new(PostProcessor).Configure(config); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPackagesGivenAsFilesHaveATagEach(t *testing.T) {
	got := packageTags(record.Record{Packages: []record.Package{
		{Name: "curl", Version: "8.5", Release: "1", Arch: "x86_64"},
		{Name: "hello", Epoch: 1, Version: "2.0", Release: "1", Arch: "x86_64", Digest: "sha256:aa"},
		{Name: "lib", Version: "3", Release: "1", Arch: "i686", Digest: "sha256:bb"},
		{Name: "lib", Version: "3", Release: "1", Arch: "x86_64", Digest: "sha256:cc"},
	}})
	want := map[string]string{
		"Packages":      "4 installed, listed in /etc/immutable/image.json",
		"Package/hello": "1:2.0-1.x86_64",
		"Package/lib":   "3-1.i686, 3-1.x86_64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags:\n%s", diff)
	}
}

func TestABuildThatInstalledNothingHasNoPackageTags(t *testing.T) {
	if got := packageTags(record.Record{}); len(got) != 0 {
		t.Errorf("tags are %v", got)
	}
}

func TestTheRecordIsThatOfTheSameBuildAndRun(t *testing.T) {
	t.Setenv("PACKER_CACHE_DIR", t.TempDir())
	t.Setenv("PACKER_RUN_UUID", "11111111-2222-3333-4444-555555555555")
	installed := record.Record{Packages: []record.Package{{Name: "hello", Version: "2.0", Release: "1", Arch: "x86_64", Digest: "sha256:aa"}}}
	if err := record.Hand(record.Key{Builder: "immutable-direct", Build: "hello"}, installed); err != nil {
		t.Fatal(err)
	}
	for build, want := range map[string]string{"hello": "2.0-1.x86_64", "other": ""} {
		var p PostProcessor
		if err := p.Configure(map[string]any{"path": aTree(t), "packer_builder_type": "immutable-direct", "packer_build_name": build}); err != nil {
			t.Fatal(err)
		}
		got, err := p.installed()
		if err != nil || got["Package/hello"] != want {
			t.Errorf("build %s: tags %v, error %v", build, got, err)
		}
	}
}

func TestAnArtifactWithoutImagesIsRefused(t *testing.T) {
	var p PostProcessor
	if err := p.Configure(map[string]any{"path": aTree(t)}); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := p.PostProcess(t.Context(), packersdk.TestUi(t), &packersdk.MockArtifact{BuilderIdValue: "null"})
	if err == nil || !strings.Contains(err.Error(), "holds no AMI") {
		t.Errorf("error %v", err)
	}
}

func TestAnAMIThatWasThereBeforeKeepsTheTagsOfItsCommit(t *testing.T) {
	t.Setenv("PACKER_RUN_UUID", "")
	var p PostProcessor
	if err := p.Configure(map[string]any{"path": aTree(t), "tags": map[string]string{"Stage": "tested"}}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		artifact image.Artifact
		commit   string
	}{
		"built": {image.Artifact{}, p.commit.ID},
		"found": {image.Artifact{Found: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			groups, err := p.groups(packersdk.TestUi(t), &test.artifact)
			put, _ := tags.Fit(nil, groups...)
			if err != nil || put["Stage"] != "tested" || put["Source/CommitId"] != test.commit {
				t.Errorf("puts %v (%v), want the commit %q", put, err, test.commit)
			}
		})
	}
}
