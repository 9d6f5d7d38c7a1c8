package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

const (
	// patience is how long one request is tried again while it fails. It is
	// more than the time in which a snapshot that was just made may not be found.
	patience = cloud.Visibility + time.Minute

	firstPause, longestPause = 100 * time.Millisecond, 10 * time.Second
)

// corruptError says that what arrived is not what was sent.
type corruptError struct{ reason string }

func (e *corruptError) Error() string { return e.reason }

// persist tries a request until it succeeds, fails for good, or has failed for
// the time of patience. Every attempt passes the gate, and has a time of its
// own, because a connection can stall without an error.
func persist(ctx context.Context, g *gate, passing func(error) bool, try func(ctx context.Context) error) error {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := attempt(ctx, g, try)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !passes(err) && !passing(err) {
			return err
		}
		// Jitter keeps many workers from coming back all at once.
		pause := pause/2 + rand.N(pause)
		if waited := time.Since(began); waited+pause > patience {
			return fmt.Errorf("given up after %s: %w", waited.Round(time.Second), err)
		}
		if err := cloud.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func attempt(ctx context.Context, g *gate, try func(ctx context.Context) error) error {
	ticket, err := g.enter(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cloud.AttemptTimeout)
	defer cancel()
	err = try(ctx)
	g.leave(ticket, jams(err))
	return err
}

// unseen takes "not found" for a passing error while the snapshot may appear.
func unseen(snapshot *cloud.Newborn) func(error) bool {
	return func(err error) bool {
		missing := (*types.ResourceNotFoundException)(nil)
		return errors.As(err, &missing) && snapshot.MayAppear()
	}
}

// never says that no error passes but those that always do.
func never(error) bool { return false }

// jams says that the error is a sign of too many requests at once.
func jams(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if throttled := (*types.RequestThrottledException)(nil); errors.As(err, &throttled) {
		return true
	}
	status := interface{ HTTPStatusCode() int }(nil)
	if errors.As(err, &status) && (status.HTTPStatusCode() >= 500 || status.HTTPStatusCode() == http.StatusTooManyRequests) {
		return true
	}
	if api := smithy.APIError(nil); errors.As(err, &api) {
		_, throttle := retry.DefaultThrottleErrorCodes[api.ErrorCode()]
		return throttle || api.ErrorFault() == smithy.FaultServer
	}
	timeout := interface{ Timeout() bool }(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}

var transport = retry.NewStandard()

// passes says that the same request may well succeed in a while.
func passes(err error) bool {
	if jams(err) || transport.IsErrorRetryable(err) {
		return true
	}
	if limit := (*types.ConcurrentLimitExceededException)(nil); errors.As(err, &limit) {
		return true
	}
	if invalid := (*types.ValidationException)(nil); errors.As(err, &invalid) {
		// An earlier attempt at the block was cut off, or is still under way.
		return invalid.Reason == types.ValidationExceptionReasonWriteRequestTimeout ||
			invalid.Reason == types.ValidationExceptionReasonConflictingBlockUpdate
	}
	corrupt := (*corruptError)(nil)
	return errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
