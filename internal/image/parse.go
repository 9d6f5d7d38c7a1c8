package image

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// foreign are the BuilderIds of the amazon plugin whose artifacts are AMIs.
var foreign = []string{
	"mitchellh.amazonebs",
	"mitchellh.amazon.chroot",
	"mitchellh.amazon.ebssurrogate",
	"mitchellh.amazon.instance",
	"packer.post-processor.amazon-import",
}

var pair = regexp.MustCompile(`^([a-z0-9-]+):(ami-[0-9a-f]+)$`)

// Parse gives the AMI in each region of an artifact: one of ours, or one of
// the amazon plugin's. Any packersdk.Artifact can be asked.
func Parse(artifact interface {
	BuilderId() string
	Id() string
}) (map[string]string, error) {
	if id := artifact.BuilderId(); id != BuilderID && !slices.Contains(foreign, id) {
		return nil, fmt.Errorf("the artifact is of %q and holds no AMI; use this post-processor after immutable-direct or a builder of the amazon plugin that makes AMIs", id)
	}
	amis := map[string]string{}
	for part := range strings.SplitSeq(artifact.Id(), ",") {
		m := pair.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return nil, fmt.Errorf("the artifact's id is %q; expected region:ami pairs such as eu-west-1:ami-0123456789abcdef0", artifact.Id())
		}
		amis[m[1]] = m[2]
	}
	return amis, nil
}
