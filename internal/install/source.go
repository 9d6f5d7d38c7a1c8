package install

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// source is one package of the plan.
type source struct {
	kind  kind
	entry string // as the user wrote it
	path  string // of a file
	url   *url.URL
}

type kind int

const (
	file   kind = iota // a file on this host
	web                // https://
	object             // s3://
	name               // for the machine's repositories
)

// parse reads one entry; a glob gives a source a file, in the order of names.
// What has a slash in it or ends in .rpm is a file, as for dnf itself.
func parse(entry string) ([]source, error) {
	if scheme, _, found := strings.Cut(entry, "://"); found {
		return parseURL(scheme, entry)
	}
	if strings.Contains(entry, "/") || strings.HasSuffix(entry, ".rpm") {
		return parsePath(entry)
	}
	_, err := path.Match(entry, "")
	if entry == "" || strings.HasPrefix(entry, "-") || strings.ContainsFunc(entry, notInName) || err != nil {
		return nil, fmt.Errorf("packages: %q is neither a file, a URL, nor the name of a package; files end in .rpm", entry)
	}
	return []source{{kind: name, entry: entry}}, nil
}

// notInName allows what dnf and yum do: globs, versions, groups (@), and
// provided capabilities such as pkgconfig(zlib).
func notInName(r rune) bool {
	return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+~^:@()*?[]!-", r)
}

func parseURL(scheme, entry string) ([]source, error) {
	u, err := url.Parse(entry)
	if err != nil {
		return nil, fmt.Errorf("packages: an entry that begins with %s:// is not a URL", scheme)
	}
	switch {
	case scheme == "https" && u.Host != "":
		return []source{{kind: web, entry: entry, url: u}}, nil
	case scheme == "s3" && u.Host != "" && len(u.Path) > 1:
		return []source{{kind: object, entry: entry, url: u}}, nil
	case scheme == "s3":
		return nil, fmt.Errorf("packages: %q does not name an object; write s3://bucket/key", entry)
	}
	return nil, fmt.Errorf("packages: %q can't be fetched; give an https:// or an s3:// URL, or a file", plain(u))
}

// parsePath takes a file of that very name before it takes a pattern.
func parsePath(entry string) ([]source, error) {
	if _, err := os.Stat(entry); err == nil || !strings.ContainsAny(entry, "*?[") {
		return []source{{kind: file, entry: entry, path: entry}}, nil
	}
	paths, err := filepath.Glob(entry)
	if err != nil {
		return nil, fmt.Errorf("packages: %q is not a pattern for files: %w", entry, err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("packages: no file matches %q; build the package first, or correct the pattern", entry)
	}
	var all []source
	for _, match := range paths {
		all = append(all, source{kind: file, entry: entry, path: match})
	}
	return all, nil
}

// String names the source in messages and in the record: without the
// directories of this host, and without what in a URL may be secret.
func (s source) String() string {
	switch s.kind {
	case file:
		return filepath.Base(s.path)
	case web, object:
		return plain(s.url)
	}
	return s.entry
}

// label names the source to the user who wrote it.
func (s source) label() string {
	if s.kind == file {
		return s.path
	}
	return s.String()
}

func plain(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
