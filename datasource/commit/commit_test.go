package commit

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/zclconf/go-cty/cty"
)

var _ packersdk.Datasource = (*Datasource)(nil)

func outsideOfCI(t *testing.T) {
	for _, name := range []string{"CODEBUILD_BUILD_ID", "GITHUB_ACTIONS", "GITLAB_CI", "BITBUCKET_BUILD_NUMBER", "JENKINS_URL"} {
		t.Setenv(name, "")
	}
}

func TestTheCommitIsAnObjectOfItsSpec(t *testing.T) {
	outsideOfCI(t)
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_AUTHOR_DATE", "2026-03-01T10:00:00+02:00")
	t.Setenv("GIT_COMMITTER_DATE", "2026-03-02T11:00:00Z")
	dir := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"remote", "add", "origin", "https://user:secret@github.com/org/app.git"},
		{"-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "--allow-empty", "-m", "Open the door"},
	} {
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	var d Datasource
	if err := d.Configure(map[string]any{"path": dir, "prefix": "Git:"}); err != nil {
		t.Fatal(err)
	}
	got, err := d.Execute()
	if err != nil {
		t.Fatal(err)
	}
	fields := got.AsValueMap()
	for name, want := range map[string]string{
		"message":        "Open the door\n",
		"author_date":    "2026-03-01T08:00:00Z",
		"committer_date": "2026-03-02T11:00:00Z",
		"branch":         "main",
		"repository":     "github.com/org/app",
		"build_url":      "",
	} {
		if fields[name].AsString() != want {
			t.Errorf("%s is %q, want %q", name, fields[name].AsString(), want)
		}
	}
	if fields["dirty"].True() {
		t.Error("the tree is dirty")
	}
	if id := fields["tags"].Index(cty.StringVal("Git:CommitId")); !id.RawEquals(fields["id"]) || len(id.AsString()) != 40 {
		t.Errorf("id is %#v, its tag %#v", fields["id"], id)
	}
}

func TestNoCommitIsAnErrorThatSaysWhatToDo(t *testing.T) {
	outsideOfCI(t)
	var d Datasource
	if err := d.Configure(map[string]any{"path": t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Execute(); err == nil || !strings.Contains(err.Error(), "set path to the git work tree") {
		t.Errorf("error %v", err)
	}
}

func TestAReservedPrefixIsRefused(t *testing.T) {
	if err := new(Datasource).Configure(map[string]any{"prefix": "aws:"}); err == nil || !strings.Contains(err.Error(), "reserved") {
		t.Errorf("error %v", err)
	}
}
