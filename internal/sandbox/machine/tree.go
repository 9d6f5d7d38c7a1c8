package machine

import (
	"maps"
	"slices"
	"strings"
)

// Tree answers for a metadata tree that is given by its leaves, {"meta-data/instance-id": "i-0ab1", …}.
// Directories list what is in them, one name a line, with a slash behind a name that is a directory.
//
// A login key is listed with its name and reached by its number, as on EC2: the leaf
// "meta-data/public-keys/0=my-key/openssh-key" is read at "meta-data/public-keys/0/openssh-key".
func Tree(leaves map[string]string) func(path string) (content string, found bool) {
	contents := map[string]string{}
	listings := map[string]map[string]bool{}
	for path, content := range leaves {
		dir := ""
		for rest := path; ; {
			name, below, isDir := strings.Cut(rest, "/")
			listed := name
			number, _, isKey := strings.Cut(name, "=")
			if isDir && !isKey {
				listed += "/"
			}
			if listings[dir] == nil {
				listings[dir] = map[string]bool{}
			}
			listings[dir][listed] = true
			if !isDir {
				contents[dir+name] = content
				break
			}
			dir, rest = dir+number+"/", below
		}
	}
	return func(path string) (string, bool) {
		if content, found := contents[path]; found {
			return content, true
		}
		if path != "" {
			path = strings.TrimSuffix(path, "/") + "/"
		}
		names, found := listings[path]
		return strings.Join(slices.Sorted(maps.Keys(names)), "\n"), found
	}
}
