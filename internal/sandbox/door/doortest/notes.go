package doortest

import (
	"slices"
	"sync"
)

// Notes are a guard that permits everything and keeps what handlers note, as
// "ec2:CopyImage arn:…".
type Notes struct {
	mu    sync.Mutex
	noted []string
}

// Enter is a Guard's.
func (n *Notes) Enter(string) func(action, resource string) error {
	return func(action, resource string) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.noted = append(n.noted, action+" "+resource)
		return nil
	}
}

// Take gives what has been noted since it was last called, in order.
func (n *Notes) Take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	noted := n.noted
	n.noted = nil
	slices.Sort(noted)
	return slices.Compact(noted)
}
