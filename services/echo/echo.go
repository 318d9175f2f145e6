// Package echo answers every request with its own body: for trying a mesh out,
// for benchmarks and tests.
//
// The one invariant: the answer is the request's body, frame by frame.
package echo

import (
	"context"
	"time"

	"github.com/mdmesh/mdmesh/worker"
)

// Handler returns a handler that answers after delay. With no delay it does not
// look at its context.
func Handler(delay time.Duration) worker.Handler {
	return func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		if delay > 0 {
			timer := time.NewTimer(delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return r.Body, nil
	}
}
