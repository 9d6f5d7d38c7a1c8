// Package blocks is the arithmetic of EBS snapshots, which are made of blocks
// of 512 KiB. It is pure: it knows nothing of AWS.
package blocks

import (
	"crypto/sha256"
	"io"
	"iter"
)

// Size of a block in bytes; StartSnapshot answers it as BlockSize, and it has
// never been another.
const Size = 512 << 10

// GiB is the unit of a snapshot's size.
const GiB = 1 << 30

// Digest is the SHA-256 of a whole block.
type Digest [sha256.Size]byte

// Zero is the digest of a block of zeros.
var Zero = Sum(make([]byte, Size))

// Sum is the digest of a block's bytes.
func Sum(block []byte) Digest { return sha256.Sum256(block) }

// Block is a block by its place and its content.
type Block struct {
	Index  int32
	Digest Digest
}

// Count is how many blocks a disk of size bytes has; the last may stick out.
func Count(size int64) int32 {
	return int32((size + Size - 1) / Size)
}

// Volume is the least whole number of GiB that holds size bytes.
func Volume(size int64) int32 {
	return int32((size + GiB - 1) / GiB)
}

// Span is the range of blocks, first to before last, that the size bytes at
// start touch.
func Span(start, size int64) (first, last int32) {
	if size <= 0 {
		return 0, 0
	}
	return int32(start / Size), int32((start + size + Size - 1) / Size)
}

// Read reads a block into buffer, which must be of Size bytes. What lies beyond
// the end of the disk is zeros.
func Read(disk io.ReaderAt, index int32, buffer []byte) error {
	n, err := disk.ReadAt(buffer, int64(index)*Size)
	if err == io.EOF {
		err = nil
	}
	clear(buffer[n:])
	return err
}

// Linear is the aggregate checksum of a snapshot's written blocks by AWS's
// method LINEAR: the SHA-256 of the blocks' digests, as raw bytes, one after
// the other in the order of their indexes.
//
// https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-checksums.html
func Linear(ordered iter.Seq[Block]) Digest {
	all := sha256.New()
	for b := range ordered {
		all.Write(b.Digest[:])
	}
	return Digest(all.Sum(nil))
}
