package tag

import (
	"fmt"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/tags"
)

// packageTags names the packages that were given as files, which are what the
// image is for, by a tag each: Package/hello = 2.0-1.x86_64. A bake may install
// hundreds more, for which an image has not the room: they are counted, and the
// image itself has the list.
func packageTags(r record.Record) map[string]string {
	if len(r.Packages) == 0 {
		return nil
	}
	tagged := map[string]string{"Packages": fmt.Sprintf("%d installed, listed in %s", len(r.Packages), record.Path)}
	for _, p := range r.Packages {
		if p.Digest == "" {
			continue
		}
		key := tags.Key("Package/" + p.Name)
		version := strings.TrimPrefix(p.String(), p.Name+"-")
		if other, twice := tagged[key]; twice {
			version = other + ", " + version
		}
		tagged[key] = tags.Value(version)
	}
	return tagged
}
