package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Guard decides what callers may do.
type Guard interface {
	// Enter is called with the books held when the handler of a call begins. It
	// gives what decides about each action on each resource that the handler
	// notes: nil where it is permitted, else why it is not, as the end of AWS's
	// sentence. The resource is empty when it is not known. Where there is nothing
	// to decide it gives nil.
	Enter(principal string) func(action, resource string) error
}

// Action is an IAM action and the ARNs of the resources that it is done to;
// none means any resource.
type Action struct {
	Name      string   `json:"name"`
	Resources []string `json:"resources,omitempty"`
}

// anything is the resource of actions that know no resources.
const anything = "*"

// On notes resources that the operation is done to. It does not return when the
// caller may not do it to them. An operation that changes something calls it, or
// Free, before it changes anything; with "*" where IAM knows no resources of it.
func (c *Call) On(arns ...string) {
	for _, arn := range arns {
		c.note(&c.Actions[0], arn)
	}
}

// Needs notes a further IAM action that the caller must be permitted. Like On,
// it does not return when the caller is not, and is called before anything is
// changed.
func (c *Call) Needs(action string, arns ...string) {
	at := slices.IndexFunc(c.Actions, func(a Action) bool { return a.Name == action })
	if at < 0 {
		at = len(c.Actions)
		c.Actions = append(c.Actions, Action{Name: action})
	}
	if len(arns) == 0 {
		arns = []string{anything}
	}
	for _, arn := range arns {
		c.note(&c.Actions[at], arn)
	}
}

func (c *Call) note(action *Action, arn string) {
	if slices.Contains(action.Resources, arn) {
		return
	}
	if c.outside {
		panic(fmt.Sprintf("%s on %s is noted too late: a handler notes everything before it goes outside", action.Name, arn))
	}
	action.Resources = append(action.Resources, arn)
	c.require(action.Name, arn)
}

// Free notes that the operation needs no permission.
func (c *Call) Free() { c.Actions = nil }

// Outside lets go of the books while f does what takes long. Afterwards
// everything must be looked up anew.
func (c *Call) Outside(f func()) {
	c.outside = true
	c.books.Outside(f)
}

// refusal is what is thrown through a handler whose caller is not permitted
// something: the sentence that says so.
type refusal string

// require ends the handler unless the caller may do this.
func (c *Call) require(action, resource string) {
	if c.permit == nil {
		return
	}
	why := c.permit(action, resource)
	if why == nil {
		return
	}
	sentence := fmt.Sprintf("User: %s is not authorized to perform: %s", c.User(), action)
	if resource != anything && resource != "" {
		sentence += " on resource: " + resource
	}
	panic(refusal(sentence + " " + why.Error()))
}

// guarded runs a handler as far as its caller is permitted what it notes. A
// refusal leaves the books as they are, because handlers note everything before
// they change anything.
func (c *Call) guarded(protocol wire.Protocol, handle func() error) (err error) {
	if c.Guard != nil {
		c.permit = c.Guard.Enter(c.Principal)
	}
	defer func() {
		switch thrown := recover().(type) {
		case nil:
		case refusal:
			err = protocol.Denied(string(thrown))
		default:
			panic(thrown)
		}
	}()
	return handle()
}

// noted sees to it, at the end of a handler, that it has noted its resources.
// One that only reads need not where IAM knows none: it is early enough then to
// refuse it at its end. One that fails may have found none; whoever may do it to
// nothing at all isn't told more than that.
func (c *Call) noted(readsOnly bool, err error) error {
	switch {
	case len(c.Actions) == 0 || len(c.Actions[0].Resources) > 0:
	case err != nil:
		c.require(c.Actions[0].Name, "")
	case readsOnly:
		c.require(c.Actions[0].Name, anything)
	default:
		return fmt.Errorf("%s has not noted what it was done to", c.Actions[0].Name)
	}
	return err
}

// dryRun is the outcome of an operation that is only tried. What it would be
// done to is not known, so it is refused to those who may do it to nothing.
func (c *Call) dryRun() error {
	c.require(c.Actions[0].Name, "")
	return wire.Errorf("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").With(http.StatusPreconditionFailed)
}
