package cloud

import (
	"maps"
	"os"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/uuid"
)

// The tags of what a run has begun and not yet finished. A killed process can
// clean nothing: whoever sweeps later finds by these what it left.
const (
	// TagRun holds the id of the run that created the resource.
	TagRun = "immutable:run"
	// TagExpires holds the time, as RFC 3339 in UTC, after which the resource
	// belongs to nobody. It is taken off what a run finishes.
	TagExpires = "immutable:expires"
)

// Lifetime is how long after its creation something belongs to its run: longer
// than any bake takes.
const Lifetime = 24 * time.Hour

// Run is one `packer build`.
type Run struct {
	ID      string
	Expires time.Time
}

// ThisRun is the run that this process belongs to: Packer gives all plugins of
// a run the same PACKER_RUN_UUID.
func ThisRun() Run {
	id := os.Getenv("PACKER_RUN_UUID")
	if id == "" {
		id = uuid.TimeOrderedUUID()
	}
	return Run{ID: id, Expires: time.Now().Add(Lifetime)}
}

// Tags are to be on everything that the run creates in AWS, from its creation,
// beside the tags given.
func (r Run) Tags(others ...map[string]string) map[string]string {
	tags := map[string]string{}
	for _, more := range others {
		maps.Copy(tags, more)
	}
	tags[TagRun] = r.ID
	tags[TagExpires] = r.Expires.UTC().Format(time.RFC3339)
	return tags
}
