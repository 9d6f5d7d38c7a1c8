package api

import (
	"fmt"
	"regexp"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/session"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
)

// The accounts of the sandbox.
const (
	Account = "123456789012" // everybody who calls
	Amazon  = "137112412989" // owns the public images, as Amazon Linux's owner does
)

// regionName keeps regions to what may be a folder's name.
var regionName = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)+-[0-9]{1,2}$`)

// IsRegion tells whether a name is that of a region, as far as its form says.
func IsRegion(name string) bool { return regionName.MatchString(name) }

// Call is one call of an operation.
type Call struct {
	Service   string // as in credential scopes, ARNs and IAM actions
	Operation string
	Region    string
	Account   string
	Principal string           // access key id
	Session   *session.Session // of temporary credentials of the sandbox's own; else nil
	RequestID string
	Now       time.Time
	Fault     string // the rule that makes the call go wrong, if any

	// Late is how long what the call creates is not seen by others.
	Late time.Duration

	Actions []Action // what the caller must be permitted; the operation itself first

	Guard Guard // may be nil; everything is permitted then

	books   *state.Books
	permit  func(action, resource string) error // the Guard's; may be nil
	outside bool                                // it has been outside
}

// User is the ARN of who calls: a session of a role, or else a user called after
// the access key.
func (c *Call) User() string {
	if c.Session != nil {
		return c.Session.ARN(c.Account)
	}
	return fmt.Sprintf("arn:aws:iam::%s:user/%s", c.Account, c.Principal)
}

// NewCall begins a call; its fields but Actions are for the caller to set.
func NewCall(books *state.Books) *Call { return &Call{Account: Account, books: books} }

// Begin names the operation, and with it the first action.
func (c *Call) Begin(service, operation string) {
	c.Service, c.Operation = service, operation
	c.Actions = []Action{{Name: service + ":" + operation}}
}

// VisibleAt is when what the call creates is seen; zero if at once.
func (c *Call) VisibleAt() time.Time {
	if c.Late == 0 {
		return time.Time{}
	}
	return c.Now.Add(c.Late)
}

// ARN names a resource of the calling account, service and region, such as
// "instance/i-0ab1".
func (c *Call) ARN(resource string) string {
	return fmt.Sprintf("arn:aws:%s:%s:%s:%s", c.Service, c.Region, c.Account, resource)
}

func (c *Call) change(f func()) { c.books.Do(f) }
func (c *Call) read(f func())   { c.books.Read(f) }
