package communicator

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// pack writes a directory as a tar archive. Symbolic links are followed, as
// the SDK's SSH communicator does. With a slash at the end of src, the archive
// has its content, otherwise src itself. The paths in exclude, relative to
// src, are left out.
func pack(w io.Writer, src string, exclude []string) error {
	archive := tar.NewWriter(w)
	name := filepath.Base(src)
	if strings.HasSuffix(src, "/") {
		name = ""
	}
	p := packer{archive: archive, exclude: exclude}
	if err := p.directory(src, name, ""); err != nil {
		return err
	}
	return archive.Close()
}

type packer struct {
	archive *tar.Writer
	exclude []string
	within  []os.FileInfo // the directories that are being packed, outermost first
}

// directory packs a directory as name; relative is its path below the source.
func (p *packer) directory(dir, name, relative string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if slices.ContainsFunc(p.within, func(outer os.FileInfo) bool { return os.SameFile(outer, info) }) {
		return fmt.Errorf("%s is a link to a directory that it is in", dir)
	}
	p.within = append(p.within, info)
	defer func() { p.within = p.within[:len(p.within)-1] }()
	if name != "" {
		header := &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm())}
		if err := p.archive.WriteHeader(header); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := path.Join(relative, e.Name())
		if slices.Contains(p.exclude, below) {
			continue
		}
		if err := p.entry(filepath.Join(dir, e.Name()), path.Join(name, e.Name()), below); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(file, name, relative string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return p.directory(file, name, relative)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a directory", file)
	}
	return p.file(file, name)
}

func (p *packer) file(file, name string) (err error) {
	content, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	info, err := content.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: int64(info.Mode().Perm())}
	if err := p.archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.Copy(p.archive, content); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// unpack reads a tar archive into a directory, which is made if need be. The
// archive comes from the image, and nothing in it can lead out of dst.
func unpack(dst string, r io.Reader, exclude []string) (err error) {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // the padding behind the end
			return err
		}
		if err != nil {
			return fmt.Errorf("read what the machine sends: %w", err)
		}
		if name := path.Clean(header.Name); !excluded(name, exclude) {
			if err := extract(root, header, name, archive); err != nil {
				return err
			}
		}
	}
}

// excluded says whether a name in an archive, whose first part is the source
// itself, is one of the paths below the source that are left out, or in one.
func excluded(name string, exclude []string) bool {
	_, below, _ := strings.Cut(name, "/")
	return slices.ContainsFunc(exclude, func(e string) bool {
		return below == e || strings.HasPrefix(below, e+"/")
	})
}

func extract(root *os.Root, header *tar.Header, name string, content io.Reader) (err error) {
	mode := header.FileInfo().Mode().Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("%s is neither a file nor a directory", name)
}
