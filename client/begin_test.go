package client

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
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

// A caller that goes from one context to another is no reason to keep the watch for
// the first: what it did before is over.
func TestVigilIsNotKeptByWhoIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Brokers: []string{"tcp://nowhere:1"}, Network: memsock.New()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begin := func() *exchange {
				x, err := c.begin(ctx, mdp.Request, &Call{Service: "echo"}, nil, mdp.RequestID{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				return x
			}
			end := func(x *exchange) {
				c.abandon(x, x.id, mdp.Cancelled, context.Canceled)
				<-x.done
				c.recycle(x)
			}
			for range shared - 2 {
				end(begin())
			}
			first := begin()
			second := begin() // with an exchange that was in no use since the last context
			third := begin()
			c.mu.Lock()
			if c.vigil.done != ctx.Done() {
				t.Error("the context that calls in a row had is not watched")
			}
			c.mu.Unlock()
			end(first) // the one that is used next
			end(second)
			end(third)
		}
	})
}
