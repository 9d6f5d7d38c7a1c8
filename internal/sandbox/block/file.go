package block

import (
	"io"
	"os"
)

func copyBytes(dst *os.File, dstOffset int64, src *os.File, srcOffset, length int64) error {
	n, err := io.Copy(io.NewOffsetWriter(dst, dstOffset), io.NewSectionReader(src, srcOffset, length))
	if err == nil && n < length {
		err = io.ErrUnexpectedEOF
	}
	return err
}
