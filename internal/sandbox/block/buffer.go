package block

// kept is how many buffers are kept for reuse. They are not in a sync.Pool, which
// forgets them when garbage is collected: memory that is fresh from the kernel
// costs more than all that is done to a block.
const kept = 64

var buffers = make(chan *[Size]byte, kept)

// Buffer gives room for a block, with any contents.
func Buffer() *[Size]byte {
	select {
	case buf := <-buffers:
		return buf
	default:
		return new([Size]byte)
	}
}

// Recycle takes a buffer back that nobody uses any more.
func Recycle(buf *[Size]byte) {
	select {
	case buffers <- buf:
	default:
	}
}
