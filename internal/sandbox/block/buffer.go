package block

import "sync"

var buffers = sync.Pool{New: func() any { return new([Size]byte) }}

// Buffer gives room for a block, with any contents.
func Buffer() *[Size]byte { return buffers.Get().(*[Size]byte) }

// Recycle takes a buffer back that nobody uses any more.
func Recycle(buf *[Size]byte) { buffers.Put(buf) }
