package base

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/disk"
	"github.com/immutable-server/packer-plugin-immutable/internal/snapshot"
)

// fetchImage gives the disk of source_image. A local raw file is used where it
// is; anything else becomes a raw file in the cache first.
func (c Config) fetchImage(ctx context.Context, ui Ui) (Disk, error) {
	s := source{location: c.SourceImage, checksum: checksum(c.SourceChecksum), ui: ui}
	raw, err := s.isRaw()
	if err != nil {
		return Disk{}, fmt.Errorf("source_image: %w", err)
	}
	d := Disk{Path: c.SourceImage}
	if raw {
		if err := s.verify(ctx); err != nil {
			return Disk{}, err
		}
	} else if d.Path, d.Index, err = s.cached(ctx); err != nil {
		return Disk{}, fmt.Errorf("source_image %s: %w", shown(c.SourceImage), err)
	}
	if d.Size, err = sizeOf(d.Path); err != nil {
		return Disk{}, fmt.Errorf("source_image: %w", err)
	}
	return d, nil
}

// checksum is the lower-case hex of the option source_checksum.
func checksum(option string) string {
	return strings.ToLower(strings.TrimPrefix(option, "sha256:"))
}

// source is a disk image that somebody gives out.
type source struct {
	location string // a path or a URL
	checksum string // of the file as it is given out; "" if not known
	ui       Ui
}

func (s source) remote() bool { return remote(s.location) }

func remote(location string) bool { return strings.Contains(location, "://") }

// shown is a location as it may be read by everybody. The user, the query and
// the fragment of a URL may be secrets.
func shown(location string) string {
	if !remote(location) {
		return location
	}
	u, err := url.Parse(location)
	if err != nil {
		return "(a malformed URL)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// isRaw says whether the location is a local raw disk.
func (s source) isRaw() (bool, error) {
	if s.remote() {
		return false, nil
	}
	f, err := os.Open(s.location)
	if err != nil {
		return false, err
	}
	packed, err := compression(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	if packed != "" {
		return false, nil
	}
	format, err := disk.Format(s.location)
	return format == disk.Raw, err
}

// verify compares a local file with the checksum, if there is one.
func (s source) verify(ctx context.Context) error {
	if s.checksum == "" {
		return nil
	}
	s.ui.Say("Verifying the checksum of " + s.location + "...")
	return s.read(ctx, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// cached gives the disk from the cache, and puts it there if need be.
func (s source) cached(ctx context.Context) (path string, index *snapshot.Index, err error) {
	key, err := s.key()
	if err != nil {
		return "", nil, err
	}
	kept, err := cache()
	if err != nil {
		return "", nil, err
	}
	return kept.Get(ctx, s.ui, key, s.fill)
}

// key names a remote image, and its content, by its checksum: a presigned URL is
// another each time. A local file is named by where it is, and its content by
// what the filesystem knows of it as well.
func (s source) key() (snapshot.Key, error) {
	location, version := s.checksum, s.checksum
	if !s.remote() {
		var err error
		if location, err = filepath.Abs(s.location); err != nil {
			return snapshot.Key{}, err
		}
		info, err := os.Stat(location)
		if err != nil {
			return snapshot.Key{}, err
		}
		version += fmt.Sprintf(" %d bytes of %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
	}
	sum := sha256.Sum256([]byte(location))
	return snapshot.Key{Name: "image-" + hex.EncodeToString(sum[:8]), Version: version}, nil
}

// fill makes the raw disk.
func (s source) fill(ctx context.Context, f *os.File) (*snapshot.Index, error) {
	err := s.read(ctx, func(r io.Reader) error { return unpack(f, r) })
	if err != nil {
		return nil, err
	}
	format, err := disk.Format(f.Name())
	if err != nil {
		return nil, err
	}
	if format == disk.Qcow2 {
		if err := convert(ctx, f); err != nil {
			return nil, err
		}
	}
	index := &snapshot.Index{}
	index.Blocks, err = snapshot.Diff(ctx, f, index)
	return index, err
}

// convert makes a qcow2 image raw, in the same file.
func convert(ctx context.Context, f *os.File) (err error) {
	raw := f.Name() + ".convert"
	defer func() { err = errors.Join(err, os.Remove(raw)) }()
	if err := disk.FromQcow2(ctx, raw, f.Name()); err != nil {
		return err
	}
	from, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := f.Truncate(0); err != nil {
		return err
	}
	return disk.Copy(ctx, f, from)
}

// read hands the bytes as they are given out to use, and then compares all of
// them with the checksum.
func (s source) read(ctx context.Context, use func(io.Reader) error) (err error) {
	body, size, err := s.open(ctx)
	if err != nil {
		return err
	}
	body = s.ui.TrackProgress(filepath.Base(shown(s.location)), 0, size, body)
	defer func() { err = errors.Join(err, body.Close()) }()
	sum := sha256.New()
	all := io.TeeReader(body, sum)
	if err := use(all); err != nil {
		return err
	}
	// A decompressor may leave the end of its input unread.
	if _, err := io.Copy(io.Discard, all); err != nil {
		return err
	}
	if is := hex.EncodeToString(sum.Sum(nil)); s.checksum != "" && is != s.checksum {
		return fmt.Errorf("source_checksum is %s, and %s has %s; correct the checksum, or fetch the file anew", s.checksum, shown(s.location), is)
	}
	return nil
}

// open opens the file or the URL; the size is 0 if it is not known.
func (s source) open(ctx context.Context) (io.ReadCloser, int64, error) {
	if s.remote() {
		return download(ctx, s.location)
	}
	f, err := os.Open(s.location)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return interruptible{ctx, f}, info.Size(), nil
}

func download(ctx context.Context, address string) (io.ReadCloser, int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	body := &patient{ctx: ctx, cancel: cancel}
	body.timer = time.AfterFunc(cloud.AttemptTimeout, func() {
		cancel(fmt.Errorf("nothing arrived for %s; try again", cloud.AttemptTimeout))
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, errors.Join(errors.New("it is not a URL"), body.Close())
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // it is closed as a part of body
	if err != nil {
		// The error of the transfer itself begins with the whole URL.
		if whole := (*url.Error)(nil); errors.As(err, &whole) {
			err = whole.Err
		}
		return nil, 0, errors.Join(err, context.Cause(ctx), body.Close())
	}
	body.ReadCloser = response.Body
	if response.StatusCode != http.StatusOK {
		return nil, 0, errors.Join(fmt.Errorf("the server answers %s; correct source_image", response.Status), body.Close())
	}
	return body, max(0, response.ContentLength), nil
}

// patient is a response that is waited for, but not for ever: each time
// something arrives its time begins anew.
type patient struct {
	io.ReadCloser
	ctx    context.Context
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(cloud.AttemptTimeout)
	n, err := p.ReadCloser.Read(b)
	if err != nil && p.ctx.Err() != nil {
		err = context.Cause(p.ctx)
	}
	return n, err
}

func (p *patient) Close() error {
	p.timer.Stop()
	p.cancel(nil)
	if p.ReadCloser == nil {
		return nil
	}
	return p.ReadCloser.Close()
}

// interruptible is a file whose reading ends with the context.
type interruptible struct {
	ctx context.Context
	*os.File
}

func (r interruptible) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.File.Read(b)
}
