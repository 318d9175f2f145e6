package broker

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// An answer is copied by whoever waits for it: the service's mutex is not held over
// what may be 64 MiB.
func TestLargeAnswerIsNotCopiedUnderTheMutex(t *testing.T) {
	t.Parallel()
	call := &localCall{done: make(chan localAnswer, 1)}
	part, last := zsock.NewBody(make([]byte, 1<<20)), zsock.NewBody(make([]byte, 1<<20), []byte("end"))
	call.finish([]zsock.Body{part}, last, nil)
	a := <-call.done
	got, want := a.frames(), last.Append(part.Append(nil))
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if &got[i][0] != &want[i][0] {
			t.Errorf("frame %d is a copy", i)
		}
	}
	if n := a.cost(); n < 2<<20 || n > 5<<20 {
		t.Errorf("it costs %d octets", n)
	}
	part.Release()
	last.Release()
	a.release()
}

// The answer to a call is all its parts, in memory of the caller's own.
func TestCallCollects(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		done := make(chan [][]byte)
		go func() {
			answer, err := b.Call(context.Background(), "s", []byte("x"))
			if err != nil {
				t.Error(err)
			}
			done <- answer
		}()
		r := w.take()
		large := strings.Repeat("p", 100_000)
		w.partial(r, large, "two")
		w.partial(r, "three")
		w.answer(r, "four", large)
		answer := <-done
		want := []string{large, "two", "three", "four", large}
		if len(answer) != len(want) {
			t.Fatalf("%d frames, want %d", len(answer), len(want))
		}
		for i, f := range answer {
			if string(f) != want[i] {
				t.Errorf("frame %d is another one", i)
			}
		}
		m.empty(b)
	})
}

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
