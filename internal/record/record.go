// Package record keeps what a bake put into an image: in the image itself, at
// Path, and on the host for the post-processors of the same run.
package record

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Path is where an image carries its own record.
const Path = "/etc/immutable/image.json"

// Record is what one run of Packer installed into one image.
type Record struct {
	// Run is the id of the Packer run, the same for all its provisioners.
	Run string `json:"run"`
	// Image tells this image from others of the same run.
	Image string `json:"image"`
	// Time is when the record was last added to, in UTC.
	Time time.Time `json:"time"`
	// Base is the system that was baked upon.
	Base Base `json:"base"`
	// Packages are sorted by name, architecture and version. They include
	// the dependencies and the updates that a transaction brought.
	Packages []Package `json:"packages"`
}

// New begins the record of an image that this run bakes.
func New(base Base) Record {
	return Record{Run: Run(), Image: rand.Text(), Base: base}
}

// Base names an operating system in the words of its os-release file.
type Base struct {
	ID        string `json:"id"`
	VersionID string `json:"version_id"`
	// Name is PRETTY_NAME, which on Amazon Linux has the release in it.
	Name string `json:"name"`
}

// Package is one package as it is installed.
type Package struct {
	Name    string `json:"name"`
	Epoch   int    `json:"epoch"`
	Version string `json:"version"`
	Release string `json:"release"`
	Arch    string `json:"arch"`
	// Digest is "sha256:" and the hexadecimal digest of the RPM file. It is
	// empty for what the machine fetched from its repositories by itself.
	Digest string `json:"digest,omitempty"`
	// Source is the name of a local file, the URL without query and user, or
	// the id of the repository. It is empty where the package manager of the
	// machine does not keep it.
	Source string `json:"source,omitempty"`
}

// String is the package's NEVRA, with the epoch only where there is one, as
// in "hello-1:2.0-1.x86_64".
func (p Package) String() string {
	evr := p.Version + "-" + p.Release
	if p.Epoch != 0 {
		evr = fmt.Sprintf("%d:%s", p.Epoch, evr)
	}
	return p.Name + "-" + evr + "." + p.Arch
}

// Same tells whether both are one build of one package: it compares NEVRAs and
// nothing of where they came from.
func (p Package) Same(q Package) bool { return p.String() == q.String() }

// Add merges packages that were installed into the record. What the record
// already knows of the same build stays known.
func (r *Record) Add(packages ...Package) {
	for _, p := range packages {
		i := slices.IndexFunc(r.Packages, p.Same)
		if i < 0 {
			r.Packages = append(r.Packages, p)
			continue
		}
		r.Packages[i].Digest = cmp.Or(p.Digest, r.Packages[i].Digest)
		r.Packages[i].Source = cmp.Or(p.Source, r.Packages[i].Source)
	}
	slices.SortFunc(r.Packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.String(), b.String()))
	})
}

// Retain forgets the packages that are no longer installed: those that a later
// transaction of the same run replaced or removed.
func (r *Record) Retain(installed []Package) {
	r.Packages = slices.DeleteFunc(r.Packages, func(p Package) bool {
		return !slices.ContainsFunc(installed, p.Same)
	})
}

// Marshal is the record as it is kept: indented JSON with a newline at its end.
func (r Record) Marshal() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the record of the image: %w", err)
	}
	return append(text, '\n'), nil
}

// Unmarshal reads what Marshal wrote.
func Unmarshal(text []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, fmt.Errorf("read the record of the image: %w", err)
	}
	return r, nil
}
