package commit

import (
	"slices"
	"strconv"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// TagPrefix stands before the keys of a commit's tags, as in AWS's own sample
// of an immutable server pipeline (aws-samples/immutable-server-pipeline).
const TagPrefix = "Source/"

// Keys are the names, without a prefix, of all tags that Tags may give.
var Keys = []string{
	"CommitId", "CommitMessage", "BranchName", "AuthorDate", "CommitterDate", "RepositoryName", "Dirty", "BuildUrl",
}

// Tags is the commit as tags that EC2 accepts, their keys with the prefix
// before them. What is not known has no tag. Dates are RFC 3339 in UTC.
func (c Commit) Tags(prefix string) map[string]string {
	all := map[string]string{
		"CommitId":       c.ID,
		"CommitMessage":  c.Message,
		"BranchName":     c.Branch,
		"AuthorDate":     date(c.AuthorDate),
		"CommitterDate":  date(c.CommitterDate),
		"RepositoryName": c.Repository,
		"BuildUrl":       c.BuildURL,
	}
	if c.Dirty != nil {
		all["Dirty"] = strconv.FormatBool(*c.Dirty)
	}
	known := map[string]string{}
	for _, key := range Keys {
		if value := tags.Value(all[key]); value != "" {
			known[prefix+key] = value
		}
	}
	return known
}

// CheckPrefix says what is wrong with what stands before Keys.
func CheckPrefix(prefix string) []error {
	longest := slices.MaxFunc(Keys, func(a, b string) int { return len(a) - len(b) })
	return tags.Check("prefix", map[string]string{prefix + longest: ""})
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
