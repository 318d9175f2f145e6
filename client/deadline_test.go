package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A deadline that comes without a monotonic reading, as from a message, does not move
// with a wall clock that was set since New.
func TestDeadlineOfTheWallClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ran = 10 * time.Second // by the monotonic clock; the other one was put back as much
		c := &Client{epoch: time.Now(), cfg: Config{Timeout: DefaultTimeout}}
		for _, d := range []time.Duration{-time.Second, 3 * time.Second, time.Hour} {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(d).Round(0))
			defer cancel()
			if got, want := c.deadline(ctx, instant(ran), 0), instant(ran+d); got != want {
				t.Errorf("in %v: %v, want %v", d, time.Duration(got), time.Duration(want))
			}
			if got, want := c.deadline(ctx, instant(ran), time.Minute), instant(ran+min(d, time.Minute)); got != want {
				t.Errorf("in %v, or a minute: %v, want %v", d, time.Duration(got), time.Duration(want))
			}
		}
		ctx, cancel := context.WithDeadline(t.Context(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		defer cancel()
		if got := c.deadline(ctx, instant(ran), 0); got < instant(100*365*24*time.Hour) {
			t.Errorf("far away: %v", time.Duration(got))
		}
	})
}
