// Package door is the front door of the sandbox: it finds out who calls which
// service in which region, sends the call through a chain of steps to its
// service, and writes the answer and the line in the call log.
package door

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/calls"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/quota"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Door is where every call comes in, an http.Handler.
type Door struct {
	services map[string]*api.Service
	books    *state.Books
	clock    *clock.Clock
	log      *calls.Log
	faults   *fault.Faults
	rates    *quota.Rates
	called   func(operation string)
	guard    api.Guard
	serve    handler
}

// visit is a call on its way through the door.
type visit struct {
	*api.Call
	http    *http.Request
	service *api.Service
	request *wire.Request
	deliver delivery
}

// delivery sends a response to the client.
type delivery func(http.ResponseWriter, *wire.Response)

// whole is the delivery of all calls but those that are made to go wrong.
func whole(w http.ResponseWriter, response *wire.Response) {
	_ = response.WriteTo(w) // who has hung up does not want the answer
}

type handler func(context.Context, *visit) (*wire.Response, error)

// step is something that happens to every call before it is carried out, or
// afterwards.
type step func(next handler) handler

// chain lists the steps, outermost first. What must happen to every call
// (faults, quotas, policies) gets its place here.
func (d *Door) chain() []step {
	return []step{
		catch,
		d.misfortune,
		d.limit,
	}
}

// Config is what a door is made of.
type Config struct {
	Books    *state.Books
	Clock    *clock.Clock
	Log      *calls.Log             // may be nil
	Faults   *fault.Faults          // may be nil
	Rates    *quota.Rates           // may be nil
	Called   func(operation string) // told of calls that are carried out, before they are answered; may be nil
	Guard    api.Guard              // decides what callers may do; may be nil
	Services []*api.Service
}

// New makes the door to the services.
func New(config Config) *Door {
	d := &Door{services: map[string]*api.Service{}, books: config.Books, clock: config.Clock, log: config.Log, faults: config.Faults, rates: config.Rates, called: config.Called, guard: config.Guard}
	for _, s := range config.Services {
		d.services[s.Scope] = s
	}
	d.serve = d.carryOut
	steps := d.chain()
	for i := len(steps) - 1; i >= 0; i-- {
		d.serve = steps[i](d.serve)
	}
	return d
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	v := &visit{Call: api.NewCall(d.books), http: r, deliver: whole}
	v.RequestID, v.Now = api.NewUUID(), d.clock.Now()
	protocol, response, err := d.answer(v)
	if err != nil {
		response = protocol.EncodeError(v.RequestID, err)
		drain(r)
	}
	// The log first: who has got the answer finds the call in the log.
	d.log.Add(v.Call, r, response.Status, err, time.Since(begin))
	v.deliver(w, response)
	response.Release()
}

// longest is more than any request that is answered.
const longest = 8 << 20

// drain reads the rest of a request that is refused. A client that is still
// sending would otherwise find its connection cut off, and not the answer.
func drain(r *http.Request) {
	_, _ = io.CopyN(io.Discard, r.Body, longest) // the answer is sent in any case
}

// answer carries a request out. The protocol, in which an error is to be
// said, is never nil.
func (d *Door) answer(v *visit) (wire.Protocol, *wire.Response, error) {
	r := v.http
	if err := checkHost(r); err != nil {
		return guess(r), nil, err
	}
	scope, err := credentialScope(r)
	if err != nil {
		return guess(r), nil, err
	}
	v.Principal, v.Region, v.Guard = scope.accessKey, scope.region, d.guard
	service, ok := d.services[scope.service]
	if !ok {
		return guess(r), nil, wire.Errorf("UnknownService", "The sandbox does not serve %s", scope.service).With(http.StatusNotFound)
	}
	v.service = service
	if v.request, err = service.Protocol.Parse(r); err != nil {
		return service.Protocol, nil, err
	}
	v.Begin(service.Name, v.request.Operation)
	if err := v.checkSession(); err != nil {
		return v.request.Protocol, nil, err
	}
	response, err := d.serve(r.Context(), v)
	return v.request.Protocol, response, err
}

// guess chooses a protocol to say an error in when the service is not known.
func guess(r *http.Request) wire.Protocol {
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		return wire.JSON("")
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"), r.URL.Query().Has("Action"):
		return wire.Query("")
	}
	return wire.RESTJSON(nil)
}

// carryOut has the service do what is asked for. Whoever listens is told when it
// has been done, also where the answer is lost afterwards.
func (d *Door) carryOut(ctx context.Context, v *visit) (*wire.Response, error) {
	response, err := v.service.Do(ctx, v.Call, v.request)
	if err == nil && d.called != nil {
		d.called(v.Service + ":" + v.Operation)
	}
	return response, err
}

// limit refuses calls that come too often.
func (d *Door) limit(next handler) handler {
	return func(ctx context.Context, v *visit) (*wire.Response, error) {
		if err := d.rates.Take(quota.Call{
			Service: v.Service, Operation: v.Operation, Region: v.Region, Path: v.http.URL.Path, Parameters: v.request.Parameters,
		}); err != nil {
			return nil, err
		}
		return next(ctx, v)
	}
}

// catch makes a panic in a handler the failure of its one call.
func catch(next handler) handler {
	return func(ctx context.Context, v *visit) (response *wire.Response, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the sandbox failed at %s:%s: %v\n%s", v.Service, v.Operation, p, debug.Stack())
			}
		}()
		return next(ctx, v)
	}
}
