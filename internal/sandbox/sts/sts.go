// Package sts is the sandbox's Security Token Service.
package sts

import (
	"context"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// New makes the service.
func New() *api.Service {
	s := api.NewService("sts", wire.Query("https://sts.amazonaws.com/doc/2011-06-15/"))
	api.Register(s, "GetCallerIdentity", getCallerIdentity)
	return s
}

type getCallerIdentityInput struct{}

type getCallerIdentityOutput struct {
	Arn     string
	UserId  string
	Account string
}

// getCallerIdentity answers with a user called after the access key, which is
// what tells callers apart in the sandbox. "No permissions are required to perform
// this operation."
func getCallerIdentity(_ context.Context, c *api.Call, _ *getCallerIdentityInput) (*getCallerIdentityOutput, error) {
	c.Free()
	return &getCallerIdentityOutput{
		Arn:     c.User(),
		UserId:  c.Principal,
		Account: c.Account,
	}, nil
}
