package commit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// fromGit reads HEAD of the work tree that path lies in.
func fromGit(ctx context.Context, path string) (Commit, error) {
	tree, gitDir, err := workTree(path)
	if err != nil {
		return Commit{}, err
	}
	repository, err := open(tree, gitDir)
	if err != nil {
		// Of a kind that go-git can't read, such as with SHA-256 ids.
		return Commit{}, fmt.Errorf("%w: open the git work tree %s: %w", ErrNone, tree, err)
	}
	head, err := repository.Head()
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return Commit{}, fmt.Errorf("%w: the git work tree %s has no commit yet", ErrNone, tree)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("read HEAD of the git work tree %s: %w", tree, err)
	}
	object, err := repository.CommitObject(head.Hash())
	if err != nil {
		return Commit{}, fmt.Errorf("read commit %s of the git work tree %s: %w", head.Hash(), tree, err)
	}
	c := Commit{
		ID:            head.Hash().String(),
		Message:       object.Message,
		AuthorDate:    object.Author.When,
		CommitterDate: object.Committer.When,
		Dirty:         dirty(ctx, repository, tree),
	}
	if head.Name().IsBranch() {
		c.Branch = head.Name().Short()
	}
	c.Repository, err = repositoryOf(repository, c.Branch)
	return c, err
}

// workTree looks for the work tree that path lies in, upwards, and for its git
// directory, which in a linked work tree or a submodule is elsewhere.
func workTree(path string) (tree, gitDir string, err error) {
	start, err := filepath.Abs(path)
	if err != nil {
		return "", "", fmt.Errorf("find the git work tree of %s: %w", path, err)
	}
	if _, err := os.Stat(start); err != nil {
		return "", "", fmt.Errorf("find the git work tree: %w", err)
	}
	for tree = start; ; tree = filepath.Dir(tree) {
		gitDir = filepath.Join(tree, git.GitDirName)
		info, err := os.Stat(gitDir)
		switch {
		case err == nil && info.IsDir():
			return tree, gitDir, nil
		case err == nil:
			gitDir, err = pointer(gitDir)
			return tree, gitDir, err
		case tree == filepath.Dir(tree):
			return "", "", fmt.Errorf("%w: %s is in no git work tree", ErrNone, start)
		}
	}
}

// pointer follows a file named .git, which holds "gitdir: " and a path.
func pointer(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the git directory: %w", err)
	}
	dir, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
	if !ok {
		return "", fmt.Errorf("find the git directory: %s does not begin with %q", file, "gitdir: ")
	}
	return from(filepath.Dir(file), dir), nil
}

func from(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

// open opens a repository as git.PlainOpen does, but also when it has the
// extensions that harmless lists.
func open(tree, gitDir string) (*git.Repository, error) {
	dir := osfs.New(gitDir)
	var common billy.Filesystem
	switch text, err := os.ReadFile(filepath.Join(gitDir, "commondir")); {
	case err == nil:
		common = osfs.New(from(gitDir, strings.TrimSpace(string(text))))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	storage := filesystem.NewStorage(dotgit.NewRepositoryFilesystem(dir, common), cache.NewObjectLRUDefault())
	return git.Open(lenient{storage}, osfs.New(tree))
}

// harmless are repository extensions that change nothing of how commits and
// references are read, and that go-git refuses nevertheless. CI services set
// them for sparse checkouts and for partial clones.
var harmless = []string{"worktreeconfig", "partialclone", "preciousobjects"}

type lenient struct{ *filesystem.Storage }

// Config hides the harmless extensions.
func (l lenient) Config() (*config.Config, error) {
	c, err := l.Storage.Config()
	if err != nil || !c.Raw.HasSection("extensions") {
		return c, err
	}
	extensions := c.Raw.Section("extensions")
	for _, option := range slices.Clone(extensions.Options) {
		if slices.Contains(harmless, strings.ToLower(option.Key)) {
			extensions.RemoveOption(option.Key)
		}
	}
	return c, nil
}

// repositoryOf names the repository by the remote that the branch follows, or
// by origin, or by the only remote there is. Without a remote it is nameless.
func repositoryOf(repository *git.Repository, branch string) (string, error) {
	c, err := repository.Config()
	if err != nil {
		return "", fmt.Errorf("read the configuration of the git repository: %w", err)
	}
	var remote *config.RemoteConfig
	if b := c.Branches[branch]; b != nil {
		remote = c.Remotes[b.Remote]
	}
	if remote == nil {
		remote = c.Remotes[git.DefaultRemoteName]
	}
	if remote == nil && len(c.Remotes) == 1 {
		for _, only := range c.Remotes {
			remote = only
		}
	}
	if remote == nil || len(remote.URLs) == 0 {
		return "", nil
	}
	return repositoryName(remote.URLs[0]), nil
}
