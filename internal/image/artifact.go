package image

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"

	registry "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"
)

// BuilderID is the artifact's BuilderId, by which post-processors know what
// its Id means.
const BuilderID = "immutable.image"

// Artifact is a set of AMIs, one a region, as Packer is handed it.
type Artifact struct {
	// AMIs has the id of the AMI in each region.
	AMIs map[string]string
	// Data is what State gives: "generated_data" and what else the builder
	// wants to be known. Only plain values survive the way to Packer.
	Data map[string]any
	// Found says that the AMIs were there before the build.
	Found bool
	// Delete deregisters an AMI and deletes its snapshots.
	Delete func(ctx context.Context, region, ami string) error
}

// BuilderId is BuilderID.
func (*Artifact) BuilderId() string { return BuilderID }

// Files is empty: an AMI has none.
func (*Artifact) Files() []string { return nil }

// Id lists region:ami pairs, sorted and joined by commas, as the amazon
// plugin's artifacts do.
func (a *Artifact) Id() string {
	return strings.Join(a.pairs(":"), ",")
}

func (a *Artifact) String() string {
	heading := "AMIs were created:\n"
	if a.Found {
		heading = "AMIs were found:\n"
	}
	return heading + strings.Join(a.pairs(": "), "\n") + "\n"
}

func (a *Artifact) pairs(separator string) []string {
	var pairs []string
	for _, region := range slices.Sorted(maps.Keys(a.AMIs)) {
		pairs = append(pairs, region+separator+a.AMIs[region])
	}
	return pairs
}

// StateFound is the State that tells whether the AMIs were there before the build,
// so that they are not made from its commit.
const StateFound = "immutable.found"

// State gives what is in Data, Found, and the images for the HCP Packer registry.
func (a *Artifact) State(name string) any {
	switch name {
	case registry.ArtifactStateURI:
		return a.registry()
	case StateFound:
		return a.Found
	}
	return a.Data[name]
}

func (a *Artifact) registry() []*registry.Image {
	source := ""
	if generated, ok := a.Data["generated_data"].(map[string]any); ok {
		source, _ = generated["SourceAMI"].(string)
	}
	var images []*registry.Image
	for _, region := range slices.Sorted(maps.Keys(a.AMIs)) {
		images = append(images, &registry.Image{
			ImageID:        a.AMIs[region],
			ProviderName:   "aws",
			ProviderRegion: region,
			SourceImageID:  source,
		})
	}
	return images
}

// Destroy deregisters the AMIs and deletes their snapshots. Packer can't read an
// error of this call, and prints that in its place; the log has it.
func (a *Artifact) Destroy() error {
	var errs []error
	for region, ami := range a.AMIs {
		if err := a.Delete(context.Background(), region, ami); err != nil {
			errs = append(errs, fmt.Errorf("destroy AMI %s in %s: %w", ami, region, err))
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		log.Printf("[ERROR] %v", err)
	}
	return err
}
