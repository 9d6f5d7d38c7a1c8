package block

import "sync"

// kept is how many buffers are kept for reuse. They are not in a sync.Pool, which
// forgets them when garbage is collected: memory that is fresh from the kernel
// costs more than all that is done to a block.
const kept = 64

// buffers are those that nobody uses. The last one is taken first: it may still
// be in the processor's cache.
var buffers struct {
	mu   sync.Mutex
	free []*[Size]byte
}

// Buffer gives room for a block, with any contents.
func Buffer() *[Size]byte {
	buffers.mu.Lock()
	defer buffers.mu.Unlock()
	last := len(buffers.free) - 1
	if last < 0 {
		return new([Size]byte)
	}
	buf := buffers.free[last]
	buffers.free = buffers.free[:last]
	return buf
}

// Recycle takes a buffer back that nobody uses any more.
func Recycle(buf *[Size]byte) {
	buffers.mu.Lock()
	defer buffers.mu.Unlock()
	if len(buffers.free) < kept {
		buffers.free = append(buffers.free, buf)
	}
}
