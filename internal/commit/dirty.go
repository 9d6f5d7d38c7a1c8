package commit

import (
	"context"
	"errors"
	"log"
	"os"
	"os/exec"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// dirty tells whether the tree differs from HEAD. Git itself is asked where it
// is installed: it alone knows filters (LFS), line endings, submodules and all
// the places that files to be ignored are named in, and it is fast on large
// trees. Elsewhere go-git answers. Neither failing fails the build: that the
// tree could not be read is logged, and nil is returned.
func dirty(ctx context.Context, repository *git.Repository, tree string) *bool {
	answer, err := askGit(ctx, tree)
	if err != nil {
		log.Printf("[DEBUG] git status of %s: %v; reading the tree without git", tree, err)
		answer, err = askGoGit(repository)
	}
	if err != nil {
		log.Printf("[WARN] can't tell whether %s differs from its commit: %v", tree, err)
		return nil
	}
	return &answer
}

func askGit(ctx context.Context, tree string) (bool, error) {
	// Fsmonitor runs a program that the repository's configuration names.
	command := exec.CommandContext(ctx, "git", "-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=normal")
	command.Dir = tree
	command.Env = append(withoutGitDir(os.Environ()), "GIT_OPTIONAL_LOCKS=0")
	out, err := command.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return false, errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return len(out) > 0, err
}

// withoutGitDir drops the variables that would make git look at another
// repository than the one of its directory, as they are set within a hook.
func withoutGitDir(environ []string) []string {
	var kept []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "GIT_") || strings.HasPrefix(name, "GIT_CONFIG") {
			kept = append(kept, variable)
		}
	}
	return kept
}

func askGoGit(repository *git.Repository) (bool, error) {
	tree, err := repository.Worktree()
	if err != nil {
		return false, err
	}
	root := osfs.New("/")
	for _, load := range []func() ([]gitignore.Pattern, error){
		func() ([]gitignore.Pattern, error) { return gitignore.LoadSystemPatterns(root) },
		func() ([]gitignore.Pattern, error) { return gitignore.LoadGlobalPatterns(root) },
	} {
		patterns, err := load()
		if err != nil {
			return false, err
		}
		tree.Excludes = append(tree.Excludes, patterns...)
	}
	status, err := tree.Status()
	return !status.IsClean(), err
}
