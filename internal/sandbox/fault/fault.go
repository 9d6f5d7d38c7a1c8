// Package fault decides which calls go wrong, and how, so that clients can be
// tried against what AWS does on a bad day.
//
// The same seed and rules pick the same calls: whether a rule strikes the n-th
// call of an operation depends on the seed, the rule, the operation and n
// alone, and so not on what is called at the same time.
package fault

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// Faults are the rules of a sandbox and its count of calls. Nil has no rules.
type Faults struct {
	seed uint64
	done chan struct{}

	mu    sync.Mutex
	rules []*running
	more  []*running     // by Set; they come first
	calls map[string]int // by operation
}

// running is a rule and how often it struck each operation.
type running struct {
	Rule
	text   string
	struck map[string]int
}

// New makes faults of rules, of which the first that strikes a call decides.
func New(seed uint64, rules ...Rule) *Faults {
	return &Faults{seed: seed, done: make(chan struct{}), calls: map[string]int{}, rules: run(rules)}
}

func run(rules []Rule) []*running {
	all := make([]*running, len(rules))
	for i, r := range rules {
		all[i] = &running{Rule: r, text: r.String(), struck: map[string]int{}}
	}
	return all
}

// Set puts rules before those of New, in the place of those that were set
// before.
func (f *Faults) Set(rules []Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.more = run(rules)
}

// Check makes sure that a rule is about at least one of the operations, which
// are named as in "ec2:RegisterImage".
func (r Rule) Check(operations []string) error {
	if !slices.ContainsFunc(operations, r.covers) {
		if r.Kind == Late {
			return fmt.Errorf("fault %q: no operation of the sandbox called %s creates what can be seen late; name operations of ec2 that create, or ebs:StartSnapshot", r, r.Operations)
		}
		return fmt.Errorf("fault %q: no operation of the sandbox is called %s; write it as AWS does, as in ec2:RegisterImage or elasticloadbalancing:*", r, r.Operations)
	}
	return nil
}

// Strike counts a call, and gives the rule that it falls to, if any.
func (f *Faults) Strike(operation string) (Rule, bool) {
	if f == nil {
		return Rule{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[operation]++
	for _, rules := range [][]*running{f.more, f.rules} {
		for _, r := range rules {
			if r.covers(operation) && r.strikes(f.seed, operation, f.calls[operation]) {
				r.struck[operation]++
				return r.Rule, true
			}
		}
	}
	return Rule{}, false
}

func (r *running) strikes(seed uint64, operation string, n int) bool {
	switch {
	case r.Nth > 0:
		return n == r.Nth
	case r.Count > 0 && r.struck[operation] >= r.Count:
		return false
	}
	return chance(seed, r.text, operation, n) < r.Rate
}

// chance is a number from 0 to below 1 that looks random.
func chance(seed uint64, rule, operation string, n int) float64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n%d", seed, rule, operation, n))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Done is closed when no fault may last any longer.
func (f *Faults) Done() <-chan struct{} { return f.done }

// Stop ends what lasts. It may be called once.
func (f *Faults) Stop() { close(f.done) }
