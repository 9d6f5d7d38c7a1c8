package ec2

import "sync"

// heralds tell subscribers of changes, in their order, from a goroutine of
// their own, so that who is told may take the books.
type heralds struct {
	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	waiting     []func()
	telling     bool // a goroutine is at it
	spawn       func(func())
}

type subscriber struct {
	region string
	heard  func(StateChange)
}

func (h *heralds) subscribe(region string, heard func(StateChange)) (cancel func()) {
	s := &subscriber{region, heard}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[s] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, s)
	}
}

// tell has all subscribers of the region told.
func (h *heralds) tell(region string, change StateChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		if s.region == region {
			h.waiting = append(h.waiting, func() {
				if h.subscribed(s) {
					s.heard(change)
				}
			})
		}
	}
	if len(h.waiting) > 0 && !h.telling {
		h.telling = true
		h.spawn(h.tellAll)
	}
}

func (h *heralds) tellAll() {
	for {
		h.mu.Lock()
		if len(h.waiting) == 0 {
			h.telling = false
			h.mu.Unlock()
			return
		}
		next := h.waiting[0]
		h.waiting = h.waiting[1:]
		h.mu.Unlock()
		next()
	}
}

func (h *heralds) subscribed(s *subscriber) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, is := h.subscribers[s]
	return is
}
