// Package sts is the sandbox's Security Token Service.
package sts

import (
	"context"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type service struct{ clock *clock.Clock }

// New makes the service.
func New(clock *clock.Clock) *api.Service {
	s := service{clock}
	r := api.NewService("sts", wire.Query("https://sts.amazonaws.com/doc/2011-06-15/"))
	api.Register(r, "AssumeRole", s.assumeRole)
	api.Register(r, "GetCallerIdentity", getCallerIdentity)
	return r
}

type getCallerIdentityInput struct{}

type getCallerIdentityOutput struct {
	Arn     string
	UserId  string
	Account string
}

// getCallerIdentity answers with the session of a role, or else with a user
// called after the access key, which is what tells callers apart in the sandbox.
// "No permissions are required to perform this operation."
func getCallerIdentity(_ context.Context, c *api.Call, _ *getCallerIdentityInput) (*getCallerIdentityOutput, error) {
	c.Free()
	user := c.Principal
	if s := c.Session; s != nil {
		user = s.RoleID() + ":" + s.Name
	}
	return &getCallerIdentityOutput{Arn: c.User(), UserId: user, Account: c.Account}, nil
}
