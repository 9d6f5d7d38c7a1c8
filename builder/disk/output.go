package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/sys/unix"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
)

// checksumPath is where the checksum of a file is.
func checksumPath(output string) string { return output + ".sha256" }

// partialPath is where a file grows until it is whole.
func partialPath(output string) string { return output + ".partial" }

// stepClaim makes the output's directory, so that a build that could not write
// there fails before it bakes.
type stepClaim struct {
	config *Config
	made   string // the outermost directory that was made
}

func (s *stepClaim) Run(_ context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.claim(); err != nil {
		return base.Fail(state, fmt.Errorf("output_path: %w; give a path that can be written", err))
	}
	return multistep.ActionContinue
}

func (s *stepClaim) claim() error {
	dir := filepath.Dir(s.config.OutputPath)
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		s.made = d
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("write into %s: %w", dir, err)
	}
	return nil
}

// Cleanup removes what is not whole and, after a failure, the directories that
// were made for it.
func (s *stepClaim) Cleanup(state multistep.StateBag) {
	err := removeIfThere(partialPath(s.config.OutputPath))
	if base.Result(state) != nil && s.made != "" {
		err = errors.Join(err, removeEmpty(filepath.Dir(s.config.OutputPath), s.made))
	}
	if err != nil {
		state.Get("ui").(packersdk.Ui).Error(fmt.Sprintf("clean up the output: %s", err))
	}
}

// removeEmpty removes a directory and those above it up to last, as far as
// nothing is in them.
func removeEmpty(dir, last string) error {
	for {
		switch err := os.Remove(dir); {
		case errors.Is(err, unix.ENOTEMPTY):
			return nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return err
		case dir == last:
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// stepOutput writes the finished disk and its checksum.
type stepOutput struct {
	config   *Config
	work     *base.Work
	artifact *artifact
}

func (s *stepOutput) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	ui := state.Get("ui").(packersdk.Ui)
	ui.Say(fmt.Sprintf("Writing %s (%s)...", s.config.OutputPath, s.config.Format))
	if err := s.write(ctx, ui); err != nil {
		return base.Fail(state, fmt.Errorf("write %s: %w", s.config.OutputPath, err))
	}
	return multistep.ActionContinue
}

// Cleanup does nothing: the output comes to its place only when it is whole,
// and what is not whole goes with stepClaim's.
func (s *stepOutput) Cleanup(multistep.StateBag) {}

func (s *stepOutput) write(ctx context.Context, ui packersdk.Ui) error {
	path := s.config.OutputPath
	partial := partialPath(path)
	var err error
	switch s.config.Format {
	case disk.Qcow2:
		err = disk.ToQcow2(ctx, partial, s.work.Disk)
	default:
		err = move(ctx, partial, s.work.Disk)
	}
	if err != nil {
		return err
	}
	sum, err := checksum(ctx, ui, partial)
	if err != nil {
		return err
	}
	// The checksum comes last: where it is, the file is whole.
	if err := removeIfThere(checksumPath(path)); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	line := fmt.Sprintf("%s  %s\n", sum, filepath.Base(path))
	if err := os.WriteFile(checksumPath(path), []byte(line), 0o644); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	s.artifact = &artifact{path: path, format: s.config.Format, sum: sum}
	return nil
}

// move renames a file or, onto another filesystem, copies it with its holes.
func move(ctx context.Context, to, from string) (err error) {
	if err := os.Rename(from, to); !errors.Is(err, unix.EXDEV) {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(disk.Copy(ctx, dst, src), dst.Close())
}

// checksumStep is how much is read at a time: each time, the progress goes
// through a call to packer.
const checksumStep = 4 << 20

// checksum is the SHA-256 of a file in hex.
func checksum(ctx context.Context, ui packersdk.Ui, path string) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err != nil {
		return "", errors.Join(err, f.Close())
	}
	content, err := disk.NewReader(f)
	if err != nil {
		return "", errors.Join(err, f.Close())
	}
	tracked := ui.TrackProgress("checksum", 0, info.Size(), content)
	defer func() { err = errors.Join(err, tracked.Close()) }()
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, untilDone{ctx, tracked}, make([]byte, checksumStep)); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// untilDone is a reader that fails once its context has ended.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(b)
}
