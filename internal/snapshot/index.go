package snapshot

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/blocks"
)

// Index has the digests of a disk's blocks, in the order of the blocks; for a
// snapshot those that were ever written, as EBS gave them. All other blocks
// are zeros.
type Index struct {
	Blocks []blocks.Block
}

// Digest is the digest of any block of the snapshot.
func (x *Index) Digest(index int32) blocks.Digest {
	at, found := slices.BinarySearchFunc(x.Blocks, index, func(b blocks.Block, index int32) int {
		return cmp.Compare(b.Index, index)
	})
	if !found {
		return blocks.Zero
	}
	return x.Blocks[at].Digest
}

// header begins an index file.
type header struct {
	Key    Key   // what these are the blocks of
	File   stamp // the disk file that was found to have them
	Blocks int   // how many there are
}

var errIndexDamaged = errors.New("the index is damaged")

// writeIndex writes an index file: the header as a line of JSON, for each
// block its index and digest, and the SHA-256 of all that.
func writeIndex(path string, h header, x *Index) (err error) {
	h.Blocks = len(x.Blocks)
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	w := bufio.NewWriter(f)
	// A bufio.Writer keeps its first error for Flush.
	all := io.MultiWriter(w, sum)
	_, err = all.Write(append(line, '\n'))
	var record [4 + sha256.Size]byte
	for _, b := range x.Blocks {
		binary.BigEndian.PutUint32(record[:], uint32(b.Index))
		copy(record[4:], b.Digest[:])
		if _, err = all.Write(record[:]); err != nil {
			break
		}
	}
	if err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	if err := errors.Join(err, w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// readIndex reads what writeIndex wrote.
func readIndex(path string) (h header, x *Index, err error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, x, err = parseIndex(bufio.NewReader(f))
	if err != nil {
		return header{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, x, nil
}

func parseIndex(r *bufio.Reader) (h header, x *Index, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &h) != nil || h.Blocks < 0 {
		return header{}, nil, errIndexDamaged
	}
	sum := sha256.New()
	sum.Write(line)
	x = &Index{}
	var record [4 + sha256.Size]byte
	for range h.Blocks {
		if _, err := io.ReadFull(r, record[:]); err != nil {
			return header{}, nil, errIndexDamaged
		}
		sum.Write(record[:])
		x.Blocks = append(x.Blocks, blocks.Block{
			Index:  int32(binary.BigEndian.Uint32(record[:])),
			Digest: blocks.Digest(record[4:]),
		})
	}
	end, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(end, sum.Sum(nil)) {
		return header{}, nil, errIndexDamaged
	}
	return h, x, nil
}
