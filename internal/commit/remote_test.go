package commit

import "testing"

func TestRepositoryNameHoldsNoCredentials(t *testing.T) {
	for remote, want := range map[string]string{
		"https://github.com/org/app.git":                              "github.com/org/app",
		"https://github.com/org/app/":                                 "github.com/org/app",
		"https://git.example.com:8443/org/app.git":                    "git.example.com/org/app",
		"https://secret@github.com/org/app.git":                       "github.com/org/app",
		"https://gitlab-ci-token:secret@gitlab.com/org/app.git":       "gitlab.com/org/app",
		"https://x:se%40cret@github.com/org/app.git":                  "github.com/org/app",
		"https://github.com/org/app.git?access_token=secret":          "github.com/org/app",
		"https://github.com/org/app.git#secret":                       "github.com/org/app",
		"https://user:se@cret@github.com/org/app.git":                 "",
		"https://user:12/secret@github.com/org/app.git":               "",
		"https://user:12?secret@github.com/org/app.git":               "",
		"https://user:12#secret@github.com/org/app.git":               "",
		"git@github.com:org/app.git":                                  "github.com/org/app",
		"github.com:org/app.git":                                      "github.com/org/app",
		"user:secret@github.com:org/app.git":                          "github.com/org/app",
		"ssh://git@github.com:22/org/app.git":                         "github.com/org/app",
		"ssh://git:secret@github.com/org/app":                         "github.com/org/app",
		"git://github.com/org/app.git":                                "github.com/org/app",
		"https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app": "git-codecommit.eu-west-1.amazonaws.com/v1/repos/app",
		"/srv/git/app.git":                                            "app",
		"file:///srv/git/app.git":                                     "app",
		"../app":                                                      "app",
		"https://github.com":                                          "",
		"/":                                                           "",
		"":                                                            "",
	} {
		if got := repositoryName(remote); got != want {
			t.Errorf("repositoryName(%q) = %q, want %q", remote, got, want)
		}
	}
}

func TestPageURLHoldsNoCredentials(t *testing.T) {
	for url, want := range map[string]string{
		"https://user:secret@ci.example.com/job/1/":                             "https://ci.example.com/job/1/",
		"https://eu-west-1.console.aws.amazon.com/codebuild/home?region=r#/b/v": "https://eu-west-1.console.aws.amazon.com/codebuild/home?region=r#/b/v",
		"http://jenkins:8080/job/app/7/":                                        "http://jenkins:8080/job/app/7/",
		"file:///etc/passwd":                                                    "",
		"not a URL":                                                             "",
		"":                                                                      "",
	} {
		if got := pageURL(url); got != want {
			t.Errorf("pageURL(%q) = %q, want %q", url, got, want)
		}
	}
}
