// Package commit finds the commit that a build is made from: in the git work
// tree, and in the variables that a CI service sets.
//
// Git is the truth about the commit. The CI service fills in what git cannot
// know: the branch of a detached HEAD, the repository of a work tree without a
// remote, the build. It serves alone where there is no work tree.
package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Commit is what is known of a commit and of the tree that was built from it.
// What is not known is zero.
type Commit struct {
	// ID is the full hexadecimal id.
	ID string
	// Message is the whole message, as it was written.
	Message string
	// AuthorDate is when the change was made, CommitterDate when it became
	// this commit.
	AuthorDate, CommitterDate time.Time
	// Branch is its short name: "main".
	Branch string
	// Repository is host and path of the repository, "github.com/org/name",
	// and never has credentials in it.
	Repository string
	// Dirty tells whether the tree differs from the commit: by a tracked file
	// that was changed or by a file that is neither tracked nor ignored. It is
	// nil where there is no tree to look at, or it could not be read.
	Dirty *bool
	// BuildURL leads to the CI service's page on this build.
	BuildURL string
}

// ErrNone says that there is neither a work tree with a commit nor a CI service
// that names one. Errors that wrap it say what was looked at.
var ErrNone = errors.New("no commit found")

// Read finds the commit of the work tree that path, a file or a folder, lies
// in, and asks the CI service that getenv knows about the rest.
func Read(ctx context.Context, path string, getenv func(string) string) (Commit, error) {
	ci := fromCI(getenv)
	c, err := fromGit(ctx, path)
	switch {
	case errors.Is(err, ErrNone) && ci.ID != "":
		return ci, nil
	case err != nil && ci.ID == "":
		return Commit{}, fmt.Errorf("%w; nor do the environment's variables name one, as those of CodeBuild, GitHub Actions, GitLab, Jenkins and Bitbucket do", err)
	case err != nil:
		return Commit{}, err
	}
	return c.with(ci), nil
}

// with fills what git did not know. The CI service's branch and repository are
// about its own checkout: they are believed if that is this commit or this
// repository, so that a work tree elsewhere gets no foreign branch.
func (c Commit) with(ci Commit) Commit {
	c.BuildURL = ci.BuildURL
	if ci.ID == "" || ci.ID == c.ID || (ci.Repository != "" && ci.Repository == c.Repository) {
		c.Branch = cmp.Or(c.Branch, ci.Branch)
		c.Repository = cmp.Or(c.Repository, ci.Repository)
	}
	return c
}
