package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// oneThenTwo has two brokers, the first of them in use: it was alone at first.
func oneThenTwo(t *testing.T, f func(t *testing.T, m *mesh)) {
	t.Helper()
	inBubble(t, 2, func(t *testing.T, m *mesh) {
		m.brokers[1].Stop()
		done := m.do(t.Context(), echoCall)
		m.request(0).Answer(mdp.Final, []byte("first"))
		(<-done).mustAnswer(t, "first")
		m.start(1)
		m.brokers[1].Expect(mdp.Hello)
		synctest.Wait()
		f(t, m)
	})
}

func TestFailOverOnClose(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		lost := m.brokers[0].Expect(mdp.Request)
		began := time.Now()
		m.brokers[0].Stop()
		again := m.brokers[1].Expect(mdp.Request)
		if d := time.Since(began); d != 0 {
			t.Errorf("failed over after %v, want at once", d)
		}
		if again.Head.ID != lost.Head.ID || again.Head.Attempt != 2 || string(again.Body[1]) != "mesh" {
			t.Errorf("retry is %+v %q, was %+v", again.Head, again.Body, lost.Head)
		}
		again.Answer(mdp.Final, []byte("second"))
		o := <-done
		o.mustAnswer(t, "second")
		if n := m.Counters(); o.reply.Attempt != 2 || n.Retries != 1 || n.Failovers != 1 {
			t.Errorf("%+v, %+v", o.reply, n)
		}
	})
}

func TestFailOverOnSilence(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		r := m.brokers[0].Expect(mdp.Request)
		r.Session.Silent.Store(true)
		began := time.Now()
		m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, []byte("second"))
		if d := time.Since(began); d < 3*time.Second || d > 3500*time.Millisecond {
			t.Errorf("failed over after %v, want 3 to 3.5 beats of 1 s", d)
		}
		(<-done).mustAnswer(t, "second")
		<-r.Session.Closed
		if n := m.Counters().Silences; n != 1 {
			t.Errorf("%d silences", n)
		}
	})
}

// Fifteen seconds between beats while nothing is outstanding, one while something is.
func TestHeartbeats(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "slow", Timeout: time.Hour})
		r := m.request(0)
		time.Sleep(10*time.Second + time.Millisecond)
		if n := r.Session.Heartbeats.Load(); n < 9 || n > 10 {
			t.Errorf("%d heartbeats in 10 s of waiting", n)
		}
		r.Answer(mdp.Final, []byte("done"))
		(<-done).mustAnswer(t, "done")
		time.Sleep(5 * time.Second)
		before := r.Session.Heartbeats.Load()
		time.Sleep(5 * time.Minute)
		if n := r.Session.Heartbeats.Load() - before; n < 19 || n > 20 {
			t.Errorf("%d heartbeats in 5 min of idling", n)
		}
		before = r.Session.Heartbeats.Load()
		done = m.do(t.Context(), client.Call{Service: "slow", Timeout: time.Hour})
		r = m.brokers[0].Expect(mdp.Request)
		time.Sleep(10 * time.Second)
		if n := r.Session.Heartbeats.Load() - before; n < 8 || n > 10 {
			t.Errorf("%d heartbeats in 10 s after idling", n)
		}
		r.Answer(mdp.Final, []byte("done"))
		(<-done).mustAnswer(t, "done")
	})
}

func TestReconnect(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Timeout: time.Minute})
		lost := m.request(0)
		m.brokers[0].Stop()
		time.Sleep(20 * time.Second)
		began := time.Now()
		m.start(0)
		again := m.request(0)
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("reconnected after %v, want 2 s at most", d)
		}
		if again.Head.ID != lost.Head.ID || again.Head.Attempt != 2 || again.Head.Remaining > 40_000 {
			t.Errorf("retry is %+v, was %+v", again.Head, lost.Head)
		}
		again.Answer(mdp.Final, []byte("at last"))
		(<-done).mustAnswer(t, "at last")
	})
}

func TestOnceIsNotRetried(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Once: true})
		m.brokers[0].Expect(mdp.Request)
		m.brokers[0].Stop()
		(<-done).mustFail(t, mdp.BrokerLost, true)
		synctest.Wait()
		m.brokers[1].None()
	})
}

// What was never sent may be sent later, also once.
func TestOnceWaitsForABroker(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		m.brokers[0].Stop()
		done := m.do(t.Context(), client.Call{Service: "echo", Once: true})
		time.Sleep(2 * time.Second)
		m.start(0)
		r := m.request(0)
		if r.Head.Attempt != 1 {
			t.Errorf("attempt %d", r.Head.Attempt)
		}
		r.Answer(mdp.Final, []byte("once"))
		(<-done).mustAnswer(t, "once")
	})
}

// The table of retry rules on the wire: status, may have run, once, and whether a
// second request must come, with which attempt.
func TestRetryTable(t *testing.T) {
	const no = 0
	for _, c := range []struct {
		status     mdp.Status
		mayHaveRun bool
		once       bool
		attempt    uint16 // of the retry
	}{
		{mdp.NotTaken, false, false, 1},
		{mdp.NotTaken, false, true, 1},
		{mdp.Busy, false, false, 1},
		{mdp.Busy, false, true, 1},
		{mdp.Busy, true, true, no},
		{mdp.BrokerLost, true, false, 2},
		{mdp.BrokerLost, false, true, 2},
		{mdp.BrokerLost, true, true, no},
		{mdp.PeerLost, true, false, 2},
		{mdp.PeerLost, false, true, 2},
		{mdp.PeerLost, true, true, no},
		{mdp.WorkerLost, true, false, no},
		{mdp.WorkerLost, true, true, no},
		{mdp.NoWorker, false, false, no},
		{mdp.Expired, true, false, no},
		{mdp.TooBig, false, false, no},
		{mdp.AppError, true, false, no},
		{mdp.Internal, true, false, no},
		{mdp.Cancelled, true, false, no},
	} {
		t.Run(fmt.Sprintf("%v/may have run %t/once %t", c.status, c.mayHaveRun, c.once), func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, m *mesh) {
				done := m.do(t.Context(), client.Call{Service: "echo", Once: c.once})
				r := m.request(0)
				r.Fail(&mdp.Error{Status: c.status, MayHaveRun: c.mayHaveRun})
				if c.attempt == no {
					(<-done).mustFail(t, c.status, c.mayHaveRun)
					m.brokers[0].None()
					return
				}
				again := m.brokers[0].Expect(mdp.Request)
				if again.Head.ID != r.Head.ID || again.Head.Attempt != c.attempt || again.Head.Token == r.Head.Token {
					t.Errorf("retry is %+v, was %+v", again.Head, r.Head)
				}
				again.Answer(mdp.Final, []byte("now"))
				(<-done).mustAnswer(t, "now")
			})
		})
	}
}

func TestBusyWaitsAsAsked(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		r := m.request(0)
		for range 3 {
			began := time.Now()
			r.Fail(&mdp.Error{Status: mdp.Busy, RetryAfter: 300 * time.Millisecond})
			r = m.brokers[0].Expect(mdp.Request)
			if d := time.Since(began); d < 300*time.Millisecond || d > 601*time.Millisecond {
				t.Errorf("sent again after %v, asked for 300 ms and as much jitter", d)
			}
		}
		r.Fail(&mdp.Error{Status: mdp.Busy, RetryAfter: 10 * time.Second, Text: "full"})
		o := <-done
		o.mustFail(t, mdp.Busy, false)
		if o.took > 2*time.Second {
			t.Errorf("failed after %v though there was no time to wait for", o.took)
		}
	})
}

func TestDrainingBroker(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		old := m.do(t.Context(), echoCall)
		r := m.brokers[0].Expect(mdp.Request)
		r.Session.Send(mdp.Command{Kind: mdp.Drain})
		synctest.Wait()
		next := m.do(t.Context(), echoCall)
		m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, []byte("elsewhere"))
		(<-next).mustAnswer(t, "elsewhere")
		r.Answer(mdp.Final, []byte("still here"))
		(<-old).mustAnswer(t, "still here")
		if bye := m.brokers[0].Next(); bye.Kind != mdp.Bye && bye.Kind != mdp.Hello {
			t.Errorf("a %v came from a client that was asked to leave", bye.Kind)
		}
		<-r.Session.Closed
	})
}

func TestByeIsALoss(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		m.brokers[0].Expect(mdp.Request).Session.Send(mdp.Command{Kind: mdp.Bye})
		m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, []byte("second"))
		(<-done).mustAnswer(t, "second")
	})
}

func TestNoBroker(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, m *mesh) {
		m.brokers[0].Stop()
		m.brokers[1].Stop()
		o := <-m.do(t.Context(), echoCall)
		if !errors.Is(o.err, client.ErrNoBroker) || o.took != 5*time.Second {
			t.Errorf("%v after %v", o.err, o.took)
		}
		for _, part := range []string{endpoint(0), endpoint(1), "refused", "call echo"} {
			if !strings.Contains(o.err.Error(), part) {
				t.Errorf("%q does not say %q", o.err, part)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if o = <-m.do(ctx, echoCall); !errors.Is(o.err, client.ErrNoBroker) {
			t.Errorf("with a context: %v", o.err)
		}
	})
}

func TestLostAndNoOtherBroker(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		m.request(0)
		m.brokers[0].Stop()
		o := <-done
		o.mustFail(t, mdp.BrokerLost, true)
		if !errors.Is(o.err, client.ErrNoBroker) || o.took != 5*time.Second {
			t.Errorf("%v after %v", o.err, o.took)
		}
	})
}

func TestDenied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := memsock.New()
		b := scripted.Start(t, scripted.Config{Endpoint: endpoint(0), Network: net})
		c, err := client.New(client.Config{Brokers: []string{b.Endpoint}, Network: net})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range 2 {
				if m := b.Next(); m.Kind == mdp.Hello {
					refusal := mdp.Command{Kind: mdp.Welcome}
					refusal.SetError(mdp.Errorf(mdp.Denied, "who are you"))
					m.Session.Send(refusal)
				}
			}
		}()
		began := time.Now()
		_, err = c.Do(t.Context(), client.Call{Service: "echo", Once: true})
		if !errors.Is(err, mdp.Denied) || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = c.Close()
		b.Stop()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		m.request(0)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		o := <-done
		if !errors.Is(o.err, client.ErrClosed) {
			t.Errorf("outstanding: %v", o.err)
		}
		o.mustFail(t, mdp.BrokerLost, true)
		if o = <-m.do(t.Context(), echoCall); !errors.Is(o.err, client.ErrClosed) {
			t.Errorf("after Close: %v", o.err)
		}
		if errors.Is(o.err, mdp.BrokerLost) {
			t.Errorf("after Close: %v, and was not sent", o.err)
		}
		m.brokers[0].Expect(mdp.Bye)
	})
}

// A broker that is leaving takes nothing new: the request goes to the other one, and
// does not wait.
func TestNotTakenElsewhere(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Once: true})
		r := m.brokers[0].Expect(mdp.Request)
		r.Session.Send(mdp.Command{Kind: mdp.Drain})
		r.Fail(mdp.Errorf(mdp.NotTaken, "the broker is shutting down"))
		m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, []byte("second"))
		o := <-done
		o.mustAnswer(t, "second")
		if o.took != 0 {
			t.Errorf("took %v, want no wait", o.took)
		}
	})
}

func TestCloseDoesNotWaitForAStalledBroker(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		m.request(0)
		synctest.Wait() // until WELCOME is here, so that a large request is sent
		m.net.Partition(memsock.Anonymous, "brokera")
		stuck := m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 4<<20)}})
		synctest.Wait()
		began := time.Now()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("closed after %v", d)
		}
		if o := <-done; !errors.Is(o.err, client.ErrClosed) {
			t.Errorf("outstanding: %v", o.err)
		}
		if o := <-stuck; !errors.Is(o.err, client.ErrClosed) {
			t.Errorf("unsent: %v", o.err)
		}
		m.net.Heal(memsock.Anonymous, "brokera")
	})
}

// A message that is too large costs the connection, so it is not sent; before the
// broker has said what is too large, large ones wait.
func TestLargeRequestsWaitForWelcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{t: t, net: memsock.New()}
		b := scripted.Start(t, scripted.Config{Endpoint: endpoint(0), Network: m.net})
		c, err := client.New(client.Config{Brokers: []string{b.Endpoint}, Network: m.net})
		if err != nil {
			t.Fatal(err)
		}
		m.Client = c
		fits := m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 1<<20-1000)}})
		large := m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 1<<20)}})
		hello := b.Expect(mdp.Hello)
		synctest.Wait()
		b.None()
		hello.Session.Send(mdp.Command{Kind: mdp.Welcome, Map: mdp.EncodeMap(&mdp.WelcomeMap{HeartbeatMs: 1000, MaxMessage: 1 << 20})})
		(<-large).mustFail(t, mdp.TooBig, false)
		b.Expect(mdp.Request).Answer(mdp.Final, []byte("fits"))
		(<-fits).mustAnswer(t, "fits")
		_ = c.Close()
		b.Stop()
	})
}
