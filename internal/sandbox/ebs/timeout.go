package ebs

import (
	"fmt"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// watch puts a snapshot that nobody writes or completes for its timeout into
// the error state. The books must be held.
func (s *Service) watch(region string, snapshot *storage.Snapshot) {
	patience := s.clock.Interval(snapshot.Write.Timeout)
	left := patience - s.clock.Now().Sub(snapshot.Write.LastUsed)
	s.clock.After(max(left, time.Millisecond), func() {
		s.books.Do(func() { s.timeOut(region, snapshot, patience) })
	})
}

func (s *Service) timeOut(region string, snapshot *storage.Snapshot, patience time.Duration) {
	if !s.known(region, snapshot) || snapshot.State != storage.Pending || snapshot.Write.Sealed {
		return
	}
	if s.clock.Now().Sub(snapshot.Write.LastUsed) < patience {
		s.watch(region, snapshot)
		return
	}
	s.store.Fail(snapshot, fmt.Sprintf("The snapshot was not completed within %v of its last block", snapshot.Write.Timeout))
}

// known is false for a snapshot that was deleted.
func (s *Service) known(region string, snapshot *storage.Snapshot) bool {
	return s.store.In(region).Snapshots[snapshot.Id] == snapshot
}
