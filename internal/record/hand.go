package record

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// keep is how long a run's records stay on the host. Post-processors follow
// their build at once; a day also covers the slowest copy of an image.
const keep = 24 * time.Hour

// Key names one build of a run in the words that Packer gives every plugin:
// common.PackerConfig's PackerBuilderType and PackerBuildName.
type Key struct {
	Builder string // "immutable-direct"
	Build   string // "hello"
}

// Run is the id of the Packer run that this process is part of. Packer sets it
// for all its plugins. It is empty outside of Packer.
func Run() string { return os.Getenv("PACKER_RUN_UUID") }

// Hand leaves the record of a build for the post-processors of the same run,
// in place of what was left for the same image before. Runs older than a day
// are removed on the way.
//
// Builds of one run that Packer gives the same names, because they are made of
// one source block, can't be told apart: that is an error rather than a record
// of the wrong image.
func Hand(build Key, r Record) error {
	path, err := build.path()
	if err != nil {
		return err
	}
	before, found, err := Find(build)
	if err != nil {
		return err
	}
	if found && before.Image != r.Image {
		return fmt.Errorf("hand the record of build %s.%s to its post-processors: another build of this run is made of the same source block and has the same name; give each a source block of its own, or build them one at a time with -only", build.Builder, build.Build)
	}
	text, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := write(path, text); err != nil {
		return fmt.Errorf("hand the record of build %s.%s to its post-processors: %w", build.Builder, build.Build, err)
	}
	return forgetOldRuns(filepath.Dir(path))
}

// Find returns what Hand left for the build in this run. A build that had no
// provisioner of ours has no record: found is false and err is nil.
func Find(build Key) (r Record, found bool, err error) {
	path, err := build.path()
	if err != nil {
		return Record{}, false, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("find the record of build %s.%s: %w", build.Builder, build.Build, err)
	}
	r, err = Unmarshal(text)
	if err != nil {
		return Record{}, false, fmt.Errorf("%s: %w", path, err)
	}
	return r, true, nil
}

// path escapes the names, which in JSON templates may have any character.
func (k Key) path() (string, error) {
	if Run() == "" {
		return "", errors.New("the environment has no PACKER_RUN_UUID, so provisioners and post-processors can't find each other's records; run the plugin by packer build")
	}
	return packersdk.CachePath("immutable", "runs", url.PathEscape(Run()),
		url.PathEscape(k.Builder)+"."+url.PathEscape(k.Build)+".json")
}

// write replaces the file as a whole, so that no reader sees half of it.
func write(path string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".record-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// forgetOldRuns removes the neighbours of current that nobody wrote to for
// longer than keep. Another run may do the same at the same time.
func forgetOldRuns(current string) error {
	runs, err := os.ReadDir(filepath.Dir(current))
	if err != nil {
		return fmt.Errorf("remove the records of old runs: %w", err)
	}
	var errs []error
	for _, run := range runs {
		info, err := run.Info()
		if err != nil || run.Name() == filepath.Base(current) || time.Since(info.ModTime()) < keep {
			continue
		}
		if err := os.RemoveAll(filepath.Join(filepath.Dir(current), run.Name())); err != nil {
			errs = append(errs, fmt.Errorf("remove the records of old runs: %w", err))
		}
	}
	return errors.Join(errs...)
}
