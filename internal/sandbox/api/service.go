package api

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Service is one of AWS's services: a protocol and its operations.
type Service struct {
	Name     string // in ARNs and IAM actions
	Scope    string // in credential scopes; as Name, but for cloudwatch
	Protocol wire.Protocol

	operations map[string]operation
}

// operation decodes a request, carries it out and encodes its outcome.
type operation func(context.Context, *Call, *wire.Request) (*wire.Response, error)

// NewService makes a service without operations.
func NewService(name string, protocol wire.Protocol) *Service {
	return &Service{Name: name, Scope: name, Protocol: protocol, operations: map[string]operation{}}
}

// Handler carries out one operation. It is called with the books held.
type Handler[In, Out any] func(context.Context, *Call, *In) (*Out, error)

// Register adds an operation to a service.
func Register[In, Out any](s *Service, name string, handle Handler[In, Out]) {
	if _, twice := s.operations[name]; twice {
		panic("api: " + s.Name + " has two operations " + name)
	}
	hold, reads := (*Call).change, ReadsOnly(name)
	if reads {
		hold = (*Call).read
	}
	s.operations[name] = func(ctx context.Context, c *Call, r *wire.Request) (*wire.Response, error) {
		in := new(In)
		if err := r.Decode(in); err != nil {
			return nil, err
		}
		var out *Out
		var err error
		hold(c, func() {
			err = c.guarded(s.Protocol, func() (err error) {
				if r.DryRun {
					return c.dryRun()
				}
				out, err = handle(ctx, c, in)
				return c.noted(reads, err)
			})
		})
		if err != nil {
			return nil, err
		}
		return r.Protocol.Encode(name, c.RequestID, out), nil
	}
}

// ReadsOnly tells by its name whether an operation leaves the books as they
// are.
func ReadsOnly(operation string) bool {
	for _, verb := range []string{"Describe", "Get", "List"} {
		if strings.HasPrefix(operation, verb) {
			return true
		}
	}
	return false
}

// Operations lists the names of the operations.
func (s *Service) Operations() []string { return slices.Sorted(maps.Keys(s.operations)) }

// Do carries out what r asks for.
func (s *Service) Do(ctx context.Context, c *Call, r *wire.Request) (*wire.Response, error) {
	operation, ok := s.operations[r.Operation]
	if !ok {
		return nil, r.Protocol.UnknownOperation(r.Operation)
	}
	return operation(ctx, c, r)
}
