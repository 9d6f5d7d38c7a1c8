package commit

import (
	"cmp"
	"regexp"
	"strings"
	"time"
)

// fromCI reads what the CI service that this process runs in says about its
// checkout. Outside of a known service the result is zero.
func fromCI(getenv func(string) string) Commit {
	for _, service := range []struct {
		sign string // the variable that only this service sets
		read func(func(string) string) Commit
	}{
		{"CODEBUILD_BUILD_ID", codeBuild},
		{"GITHUB_ACTIONS", gitHub},
		{"GITLAB_CI", gitLab},
		{"BITBUCKET_BUILD_NUMBER", bitbucket},
		{"JENKINS_URL", jenkins},
	} {
		if getenv(service.sign) != "" {
			return service.read(getenv).sane()
		}
	}
	return Commit{}
}

// A commit's id in SHA-1 or SHA-256. CodeBuild sets an S3 object's version in
// its place where the source is one.
var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

func (c Commit) sane() Commit {
	if !commitID.MatchString(c.ID) {
		c.ID = ""
	}
	if c.Repository != "" {
		c.Repository = repositoryName(c.Repository)
	}
	c.BuildURL = pageURL(c.BuildURL)
	return c
}

// https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
func codeBuild(getenv func(string) string) Commit {
	branch, isBranch := strings.CutPrefix(getenv("CODEBUILD_WEBHOOK_HEAD_REF"), "refs/heads/")
	if !isBranch {
		branch, isBranch = strings.CutPrefix(getenv("CODEBUILD_WEBHOOK_TRIGGER"), "branch/")
	}
	if !isBranch {
		// A build started for a branch has "refs/heads/main^{id}" or, as it was
		// typed, "main", an id, a tag, "pr/7", an object in S3: only the first is sure.
		branch, isBranch = strings.CutPrefix(getenv("CODEBUILD_SOURCE_VERSION"), "refs/heads/")
		branch, _, _ = strings.Cut(branch, "^")
	}
	if !isBranch {
		branch = ""
	}
	return Commit{
		ID:         getenv("CODEBUILD_RESOLVED_SOURCE_VERSION"),
		Branch:     branch,
		Repository: getenv("CODEBUILD_SOURCE_REPO_URL"),
		BuildURL:   getenv("CODEBUILD_BUILD_URL"),
	}
}

// https://docs.github.com/actions/reference/workflows-and-actions/variables
func gitHub(getenv func(string) string) Commit {
	branch := getenv("GITHUB_HEAD_REF") // of a pull request
	if branch == "" && getenv("GITHUB_REF_TYPE") == "branch" {
		branch = strings.TrimPrefix(getenv("GITHUB_REF"), "refs/heads/")
	}
	c := Commit{ID: getenv("GITHUB_SHA"), Branch: branch}
	if server, name := getenv("GITHUB_SERVER_URL"), getenv("GITHUB_REPOSITORY"); server != "" && name != "" {
		c.Repository = server + "/" + name
		c.BuildURL = c.Repository + "/actions/runs/" + getenv("GITHUB_RUN_ID")
		if attempt := getenv("GITHUB_RUN_ATTEMPT"); attempt != "" {
			c.BuildURL += "/attempts/" + attempt
		}
	}
	return c
}

// https://docs.gitlab.com/ci/variables/predefined_variables/
func gitLab(getenv func(string) string) Commit {
	c := Commit{
		ID:         getenv("CI_COMMIT_SHA"),
		Message:    getenv("CI_COMMIT_MESSAGE"),
		Branch:     cmp.Or(getenv("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"), getenv("CI_COMMIT_BRANCH")),
		Repository: getenv("CI_PROJECT_URL"),
		BuildURL:   cmp.Or(getenv("CI_JOB_URL"), getenv("CI_PIPELINE_URL")),
	}
	if when, err := time.Parse(time.RFC3339, getenv("CI_COMMIT_TIMESTAMP")); err == nil {
		c.CommitterDate = when
	}
	return c
}

// https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/
func bitbucket(getenv func(string) string) Commit {
	c := Commit{
		ID:         getenv("BITBUCKET_COMMIT"),
		Branch:     getenv("BITBUCKET_BRANCH"),
		Repository: getenv("BITBUCKET_GIT_HTTP_ORIGIN"),
	}
	if name := getenv("BITBUCKET_REPO_FULL_NAME"); name != "" {
		c.BuildURL = "https://bitbucket.org/" + name + "/pipelines/results/" + getenv("BITBUCKET_BUILD_NUMBER")
	}
	return c
}

// https://plugins.jenkins.io/git/ and a multibranch job's own variables
func jenkins(getenv func(string) string) Commit {
	branch := cmp.Or(getenv("CHANGE_BRANCH"), getenv("BRANCH_NAME"), getenv("GIT_LOCAL_BRANCH"))
	if branch == "" {
		// The Git plugin has the remote's name before it: "origin/main".
		if _, short, ok := strings.Cut(getenv("GIT_BRANCH"), "/"); ok {
			branch = short
		}
	}
	if branch == "detached" || getenv("TAG_NAME") != "" {
		branch = ""
	}
	return Commit{
		ID:         getenv("GIT_COMMIT"),
		Branch:     branch,
		Repository: cmp.Or(getenv("GIT_URL"), getenv("GIT_URL_1")),
		BuildURL:   getenv("BUILD_URL"),
	}
}
