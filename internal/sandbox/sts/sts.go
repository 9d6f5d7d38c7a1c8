// Package sts is the sandbox's Security Token Service.
package sts

import (
	"context"
	"fmt"

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
// what tells callers apart in the sandbox.
func getCallerIdentity(_ context.Context, c *api.Call, _ *getCallerIdentityInput) (*getCallerIdentityOutput, error) {
	return &getCallerIdentityOutput{
		Arn:     fmt.Sprintf("arn:aws:iam::%s:user/%s", c.Account, c.Principal),
		UserId:  c.Principal,
		Account: c.Account,
	}, nil
}
