package commit

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	id      = "0123456789abcdef0123456789abcdef01234567"
	otherID = "ffffffffffffffffffffffffffffffffffffffff"
)

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestReadFromCIAlone(t *testing.T) {
	for name, test := range map[string]struct {
		env  environment
		want Commit
	}{
		"CodeBuild, by webhook": {
			environment{
				"CODEBUILD_BUILD_ID":                "app:1",
				"CODEBUILD_RESOLVED_SOURCE_VERSION": id,
				"CODEBUILD_SOURCE_VERSION":          id,
				"CODEBUILD_WEBHOOK_HEAD_REF":        "refs/heads/feature/door",
				"CODEBUILD_SOURCE_REPO_URL":         "https://user:secret@github.com/org/app.git",
				"CODEBUILD_BUILD_URL":               "https://eu-west-1.console.aws.amazon.com/codebuild/home?region=eu-west-1#/builds/app:1/view/new",
			},
			Commit{
				ID: id, Branch: "feature/door", Repository: "github.com/org/app",
				BuildURL: "https://eu-west-1.console.aws.amazon.com/codebuild/home?region=eu-west-1#/builds/app:1/view/new",
			},
		},
		"CodeBuild, started by a pipeline with a full clone": {
			environment{
				"CODEBUILD_BUILD_ID":                "app:1",
				"CODEBUILD_RESOLVED_SOURCE_VERSION": id,
				"CODEBUILD_SOURCE_VERSION":          "refs/heads/main^{" + id + "}",
			},
			Commit{ID: id, Branch: "main"},
		},
		"CodeBuild, of a tag": {
			environment{
				"CODEBUILD_BUILD_ID":                "app:1",
				"CODEBUILD_RESOLVED_SOURCE_VERSION": id,
				"CODEBUILD_SOURCE_VERSION":          "v1.0",
				"CODEBUILD_WEBHOOK_TRIGGER":         "tag/v1.0",
				"CODEBUILD_WEBHOOK_HEAD_REF":        "refs/tags/v1.0",
			},
			Commit{ID: id},
		},
		"GitHub Actions": {
			environment{
				"GITHUB_ACTIONS": "true", "GITHUB_SHA": id,
				"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch",
				"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "org/app",
				"GITHUB_RUN_ID": "42", "GITHUB_RUN_ATTEMPT": "2",
			},
			Commit{ID: id, Branch: "main", Repository: "github.com/org/app", BuildURL: "https://github.com/org/app/actions/runs/42/attempts/2"},
		},
		"GitHub Actions, of a pull request": {
			environment{
				"GITHUB_ACTIONS": "true", "GITHUB_SHA": id,
				"GITHUB_REF": "refs/pull/7/merge", "GITHUB_REF_NAME": "7/merge", "GITHUB_REF_TYPE": "branch", "GITHUB_HEAD_REF": "door",
			},
			Commit{ID: id, Branch: "door"},
		},
		"GitHub Actions, of a tag": {
			environment{"GITHUB_ACTIONS": "true", "GITHUB_SHA": id, "GITHUB_REF": "refs/tags/v1", "GITHUB_REF_TYPE": "tag"},
			Commit{ID: id},
		},
		"GitLab": {
			environment{
				"GITLAB_CI": "true", "CI_COMMIT_SHA": id, "CI_COMMIT_MESSAGE": "Open the door\n",
				"CI_COMMIT_TIMESTAMP": "2026-03-02T11:00:00+00:00", "CI_COMMIT_BRANCH": "main",
				"CI_PROJECT_URL": "https://gitlab.com/org/app", "CI_JOB_URL": "https://gitlab.com/org/app/-/jobs/1",
			},
			Commit{
				ID: id, Message: "Open the door\n", CommitterDate: committed, Branch: "main",
				Repository: "gitlab.com/org/app", BuildURL: "https://gitlab.com/org/app/-/jobs/1",
			},
		},
		"Bitbucket": {
			environment{
				"BITBUCKET_BUILD_NUMBER": "9", "BITBUCKET_COMMIT": id, "BITBUCKET_BRANCH": "main",
				"BITBUCKET_GIT_HTTP_ORIGIN": "http://bitbucket.org/org/app", "BITBUCKET_REPO_FULL_NAME": "org/app",
			},
			Commit{ID: id, Branch: "main", Repository: "bitbucket.org/org/app", BuildURL: "https://bitbucket.org/org/app/pipelines/results/9"},
		},
		"Jenkins": {
			environment{
				"JENKINS_URL": "https://ci.example.com/", "BUILD_URL": "https://ci.example.com/job/app/3/",
				"GIT_COMMIT": id, "GIT_BRANCH": "origin/feature/door", "GIT_URL": "git@github.com:org/app.git",
			},
			Commit{ID: id, Branch: "feature/door", Repository: "github.com/org/app", BuildURL: "https://ci.example.com/job/app/3/"},
		},
		"Jenkins, of a pull request": {
			environment{
				"JENKINS_URL": "https://ci.example.com/", "GIT_COMMIT": id, "GIT_BRANCH": "PR-7", "BRANCH_NAME": "PR-7", "CHANGE_BRANCH": "door",
			},
			Commit{ID: id, Branch: "door"},
		},
		"Jenkins, of a tag": {
			environment{"JENKINS_URL": "https://ci.example.com/", "GIT_COMMIT": id, "GIT_BRANCH": "v1", "BRANCH_NAME": "v1", "TAG_NAME": "v1"},
			Commit{ID: id},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(t.Context(), t.TempDir(), test.env.get)
			if err != nil {
				t.Fatal(err)
			}
			equalTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
			if diff := cmp.Diff(test.want, got, equalTime); diff != "" {
				t.Errorf("the commit read differs:\n%s", diff)
			}
		})
	}
}

func TestSomethingElseThanACommitIsNoID(t *testing.T) {
	env := environment{
		"CODEBUILD_BUILD_ID":                "app:1",
		"CODEBUILD_RESOLVED_SOURCE_VERSION": "pWhYRRvbFBDFDoGEF3wTTcvPHoFgmXkn", // a version of an S3 object
	}
	if c, err := Read(t.Context(), t.TempDir(), env.get); err == nil {
		t.Errorf("read %+v, want an error", c)
	}
}

func TestCIFillsWhatGitDoesNotKnow(t *testing.T) {
	dir := aRepository(t)
	sh(t, dir, "checkout", "-q", "--detach")
	head := sh(t, dir, "rev-parse", "HEAD")
	for name, test := range map[string]struct {
		env                      environment
		branch, repository, page string
	}{
		"of the same commit": {
			environment{"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_COMMIT": head, "BITBUCKET_BRANCH": "door", "BITBUCKET_REPO_FULL_NAME": "o/a"},
			"door", "github.com/org/app", "https://bitbucket.org/o/a/pipelines/results/1",
		},
		"of another commit of the same repository": {
			environment{"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_COMMIT": otherID, "BITBUCKET_BRANCH": "door", "BITBUCKET_GIT_HTTP_ORIGIN": "https://github.com/org/app"},
			"door", "github.com/org/app", "",
		},
		"but not of another repository": {
			environment{"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_COMMIT": otherID, "BITBUCKET_BRANCH": "door", "BITBUCKET_GIT_HTTP_ORIGIN": "https://github.com/org/other", "BITBUCKET_REPO_FULL_NAME": "o/a"},
			"", "github.com/org/app", "https://bitbucket.org/o/a/pipelines/results/1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Read(t.Context(), dir, test.env.get)
			if err != nil {
				t.Fatal(err)
			}
			if c.ID != head || c.Branch != test.branch || c.Repository != test.repository || c.BuildURL != test.page {
				t.Errorf("read commit %s, branch %q, repository %q, page %q", c.ID, c.Branch, c.Repository, c.BuildURL)
			}
		})
	}
}

func TestTagsHaveTheKeysOfTheSample(t *testing.T) {
	c := Commit{
		ID: id, Message: message, AuthorDate: authored, CommitterDate: committed,
		Branch: "main", Repository: "github.com/org/app", Dirty: new(false), BuildURL: "https://ci/1",
	}
	want := map[string]string{
		"Source/CommitId":       id,
		"Source/CommitMessage":  "Open the door It was shut.",
		"Source/AuthorDate":     "2026-03-01T08:00:00Z",
		"Source/CommitterDate":  "2026-03-02T11:00:00Z",
		"Source/BranchName":     "main",
		"Source/RepositoryName": "github.com/org/app",
		"Source/Dirty":          "false",
		"Source/BuildUrl":       "https://ci/1",
	}
	if diff := cmp.Diff(want, c.Tags(TagPrefix)); diff != "" {
		t.Errorf("tags:\n%s", diff)
	}
}

func TestWhatIsNotKnownHasNoTag(t *testing.T) {
	if diff := cmp.Diff(map[string]string{"x:CommitId": id}, Commit{ID: id}.Tags("x:")); diff != "" {
		t.Errorf("tags:\n%s", diff)
	}
}
