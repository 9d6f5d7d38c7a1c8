package snapshot

import (
	"io"
	"sync"
)

// progress shows bytes as they are transferred, in any order and by any number
// of workers. The Ui wants to see a stream being read, so it is given one that
// yields as many bytes as have been reported.
type progress struct {
	mu      sync.Mutex
	changed *sync.Cond
	pending int64
	closed  bool
	shown   chan struct{}
}

// track begins to show a transfer of total bytes. Close must be called.
func track(ui Ui, what string, total int64) *progress {
	p := &progress{shown: make(chan struct{})}
	p.changed = sync.NewCond(&p.mu)
	stream := ui.TrackProgress(what, 0, total, io.NopCloser(p))
	go func() {
		defer close(p.shown)
		// Each Read is a round trip to Packer, so it takes all there is.
		buffer := make([]byte, 4<<20)
		for {
			if _, err := stream.Read(buffer); err != nil {
				break
			}
		}
		// It is about looks only: there is nothing to do for an error.
		_ = stream.Close()
	}()
	return p
}

// Add reports n more bytes.
func (p *progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending += n
	p.changed.Signal()
}

// Read yields bytes of no meaning, as many as were added.
func (p *progress) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.pending == 0 && !p.closed {
		p.changed.Wait()
	}
	if p.pending == 0 {
		return 0, io.EOF
	}
	n := int(min(p.pending, int64(len(b))))
	p.pending -= int64(n)
	return n, nil
}

// Close ends the stream and waits until all of it is shown.
func (p *progress) Close() {
	p.mu.Lock()
	p.closed = true
	p.changed.Signal()
	p.mu.Unlock()
	<-p.shown
}
