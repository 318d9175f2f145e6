package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// part is one thing a stream has yielded.
type part struct {
	text string
	err  error
}

// stream reads a stream in the background; it stops after `limit` parts, if not 0.
func (m *mesh) stream(ctx context.Context, call client.Call, limit int) <-chan []part {
	done := make(chan []part, 1)
	go func() {
		var parts []part
		for body, err := range m.Stream(ctx, call) {
			p := part{err: err}
			if len(body) > 0 {
				p.text = string(body[0])
			}
			if parts = append(parts, p); len(parts) == limit {
				break
			}
		}
		done <- parts
	}()
	return done
}

func TestStream(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.stream(t.Context(), echoCall, 0)
		r := m.request(0)
		r.Answer(mdp.Partial, []byte("a"))
		r.Answer(mdp.Partial, []byte("b"))
		synctest.Wait()
		r.Answer(mdp.Partial, []byte("c"))
		r.Answer(mdp.Final, []byte("end"))
		if got := <-done; !slices.Equal(got, []part{{text: "a"}, {text: "b"}, {text: "c"}, {text: "end"}}) {
			t.Errorf("%v", got)
		}
	})
}

func TestStreamFails(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.stream(t.Context(), echoCall, 0)
		r := m.request(0)
		r.Answer(mdp.Partial, []byte("a"))
		r.Fail(mdp.Errorf(mdp.AppError, "disk full"))
		got := <-done
		if len(got) != 2 || got[0].text != "a" || !errors.Is(got[1].err, mdp.AppError) {
			t.Errorf("%v", got)
		}
	})
}

func TestLeavingAStreamCancels(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.stream(t.Context(), echoCall, 1)
		r := m.request(0)
		r.Answer(mdp.Partial, []byte("a"))
		r.Answer(mdp.Partial, []byte("b"))
		if got := <-done; len(got) != 1 {
			t.Errorf("%v", got)
		}
		if c := m.brokers[0].Expect(mdp.Cancel); c.Head.Token != r.Head.Token {
			t.Errorf("CANCEL of %x, want %x", c.Head.Token, r.Head.Token)
		}
		if n := m.Counters().Outstanding; n != 0 {
			t.Errorf("%d calls outstanding", n)
		}
	})
}

func TestContextEndsAStream(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		ctx, cancel := context.WithCancel(t.Context())
		done := m.stream(ctx, echoCall, 0)
		m.request(0).Answer(mdp.Partial, []byte("a"))
		synctest.Wait()
		cancel()
		got := <-done
		if len(got) != 2 || !errors.Is(got[1].err, context.Canceled) {
			t.Errorf("%v", got)
		}
		m.brokers[0].Expect(mdp.Cancel)
	})
}

func TestPanickingReaderLeavesNothing(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			for range m.Stream(t.Context(), echoCall) {
				panic("reader")
			}
		}()
		m.request(0).Answer(mdp.Partial)
		if p := <-done; p != "reader" {
			t.Errorf("recovered %v", p)
		}
		m.brokers[0].Expect(mdp.Cancel)
	})
}

func TestPartialsOfDo(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		r := m.request(0)
		r.Answer(mdp.Partial, []byte("a"), []byte("b"))
		r.Answer(mdp.Partial)
		r.Answer(mdp.Final, []byte("end"))
		o := <-done
		o.mustAnswer(t, "end")
		if p := o.reply.Partials; len(p) != 2 || len(p[0]) != 2 || len(p[1]) != 0 {
			t.Errorf("partials %q", p)
		}
	})
}

// A request that has sent partials is not tried again, unless the caller allows it.
func TestLossAfterPartial(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		r := m.brokers[0].Expect(mdp.Request)
		r.Answer(mdp.Partial, []byte("a"))
		synctest.Wait()
		m.brokers[0].Stop()
		(<-done).mustFail(t, mdp.BrokerLost, true)
		m.brokers[1].None()
	})
}

func TestRestartableAfterPartial(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		call := client.Call{Service: "echo", Restartable: true}
		stream := m.stream(t.Context(), call, 0)
		r := m.brokers[0].Expect(mdp.Request)
		r.Answer(mdp.Partial, []byte("a"))
		reply := m.do(t.Context(), call)
		m.brokers[0].Expect(mdp.Request).Answer(mdp.Partial, []byte("a"))
		synctest.Wait()
		m.brokers[0].Stop()
		for range 2 {
			r := m.brokers[1].Expect(mdp.Request)
			r.Answer(mdp.Partial, []byte("A"))
			r.Answer(mdp.Final, []byte("end"))
		}
		if got := <-stream; !slices.Equal(got, []part{{text: "a"}, {err: client.ErrRestarted}, {text: "A"}, {text: "end"}}) {
			t.Errorf("%v", got)
		}
		o := <-reply
		o.mustAnswer(t, "end")
		if p := o.reply.Partials; len(p) != 1 || string(p[0][0]) != "A" || o.reply.Attempt != 2 {
			t.Errorf("%+v", o.reply)
		}
	})
}

// The broker may run a restartable request again by itself: partials then have the
// attempt's number.
func TestRestartWithinABroker(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		call := client.Call{Service: "echo", Restartable: true}
		done := m.stream(t.Context(), call, 0)
		r := m.request(0)
		r.Answer(mdp.Partial, []byte("a"))
		r.Answer(mdp.Partial, []byte("b"))
		r.Head.Attempt = 2
		r.Answer(mdp.Final, []byte("whole"))
		if got := <-done; !slices.Equal(got, []part{{text: "a"}, {text: "b"}, {err: client.ErrRestarted}, {text: "whole"}}) {
			t.Errorf("%v", got)
		}
		done = m.stream(t.Context(), call, 0)
		r = m.brokers[0].Expect(mdp.Request)
		r.Answer(mdp.Partial, []byte("a"))
		r.Head.Attempt = 2
		r.Answer(mdp.Partial, []byte("A"))
		r.Answer(mdp.Final, []byte("end"))
		if got := <-done; !slices.Equal(got, []part{{text: "a"}, {err: client.ErrRestarted}, {text: "A"}, {text: "end"}}) {
			t.Errorf("%v", got)
		}
	})
}

func TestTooManyPartials(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		r := m.request(0)
		for range 10_001 {
			r.Answer(mdp.Partial, []byte("a"))
		}
		(<-done).mustFail(t, mdp.TooBig, true)
		m.brokers[0].Expect(mdp.Cancel)
	})
}
