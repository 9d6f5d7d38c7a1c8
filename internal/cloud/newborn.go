package cloud

import (
	"sync/atomic"
	"time"
)

// Visibility is how long something that was just created may be answered as not
// existing. EC2 promises no bound ("Eventual consistency in the Amazon EC2 API");
// the EBS team speaks of up to two minutes (awslabs/coldsnap#43), and this is a
// minute more.
const Visibility = 3 * time.Minute

// Newborn is something that was just created. Until it has been seen, or is old
// enough, it proves nothing that AWS does not find it. It is safe for concurrent
// use; nil is nothing that was just created.
type Newborn struct {
	made time.Time
	seen atomic.Bool
}

// Born says that something was created now.
func Born() *Newborn { return &Newborn{made: time.Now()} }

// Seen says that AWS has found it: from now on it is gone when it is not found.
func (n *Newborn) Seen() {
	if n != nil {
		n.seen.Store(true)
	}
}

// MayAppear tells whether it may yet be found although it is not.
func (n *Newborn) MayAppear() bool {
	return n != nil && !n.seen.Load() && time.Since(n.made) < Visibility
}
