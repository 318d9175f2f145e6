package broker

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Who says that it may take for ever means it: no sum of times wraps.
func TestTimesWithoutEnd(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.BusyLimit = math.MaxInt64 })
		m.pass(time.Second)
		w, c := m.worker(b, "s", 2), m.client(b, "c")
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(math.MaxInt64))
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := b.Call(ctx, "s", []byte("x"))
			done <- err
		}()
		r := w.take()
		if r.Head.Remaining != math.MaxUint32 {
			t.Errorf("the worker was told %d ms", r.Head.Remaining)
		}
		m.pass(time.Minute)
		w.quiet()
		w.answer(r, "y")
		if err := <-done; err != nil {
			t.Error(err)
		}
		h := c.ask("s", "x", detach)
		r = w.take()
		c.close()
		m.pass(time.Minute)
		w.quiet() // it goes on
		w.answer(r, "z")
		again := m.client(b, "c")
		again.answered(again.attach(h.ID), mdp.OK, "z")
	})
}
