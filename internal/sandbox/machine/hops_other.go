//go:build !linux

package machine

import "context"

// limitHops does nothing: instances run on Linux alone.
func limitHops(context.Context, int) {}
