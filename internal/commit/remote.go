package commit

import (
	"net/url"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
)

// repositoryName makes the URL of a remote, in any of git's syntaxes, the name
// of a repository: host and path, without scheme, user, password, port, query
// and ".git". Of a local path only the last part is kept. A URL with an "@"
// that does not end its user and password gives no name at all: there a
// password was written unescaped, and nobody can tell where it ends.
func repositoryName(remote string) string {
	end, err := transport.NewEndpoint(remote)
	if err != nil {
		return ""
	}
	ats := 0
	if end.User != "" {
		ats = 1
	}
	if remote == "" || strings.Count(remote, "@") != ats {
		return ""
	}
	place, _, _ := strings.Cut(end.Path, "?")
	place, _, _ = strings.Cut(place, "#")
	place = strings.TrimSuffix(strings.Trim(place, "/"), ".git")
	switch {
	case place == "":
		return ""
	case end.Protocol == "file":
		return path.Base(place)
	}
	return end.Host + "/" + place
}

// pageURL is a URL without user and password, or nothing where it is no URL of
// the web. Its query and fragment stay: CodeBuild's pages need them.
func pageURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return ""
	}
	u.User = nil
	return u.String()
}
