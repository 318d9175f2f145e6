package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// A broker need not answer requests that are cancelled at once, nor say anything
// else while nothing is outstanding: that is no silence.
func TestCancelledRequestsAreNoSilence(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		m.brokers[0].Sessions()[0].Silent.Store(true)
		for range 30 {
			ctx, cancel := context.WithCancel(t.Context())
			done := m.do(ctx, echoCall)
			m.brokers[0].Expect(mdp.Request)
			cancel()
			(<-done).mustFail(t, mdp.Cancelled, true)
			m.brokers[0].Expect(mdp.Cancel)
			time.Sleep(500 * time.Millisecond)
		}
		m.brokers[1].None()
		if n := m.Counters(); n.Silences != 0 || n.Failovers != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// Calls that give up sooner than silence is noticed add up.
func TestShortCallsNoticeSilence(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		m.brokers[0].Sessions()[0].Silent.Store(true)
		began := time.Now()
		for m.Counters().Failovers == 0 {
			o := <-m.do(t.Context(), client.Call{Service: "echo", Timeout: 300 * time.Millisecond})
			o.mustFail(t, mdp.Expired, true)
			time.Sleep(200 * time.Millisecond)
			if d := time.Since(began); d > time.Minute {
				t.Fatalf("no fail-over for %v", d)
			}
		}
		// 60 % of the time something is outstanding.
		if d := time.Since(began); d < 4500*time.Millisecond || d > 8*time.Second {
			t.Errorf("failed over after %v", d)
		}
	})
}

// An idle broker beats every 15 s; a warm connection without a word for three of
// those is dialled anew.
func TestSilenceOfTheWarmConnection(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		s := m.brokers[1].Sessions()[0]
		s.Silent.Store(true)
		began := time.Now()
		m.brokers[1].Expect(mdp.Hello)
		if d := time.Since(began); d < 40*time.Second || d > 65*time.Second {
			t.Errorf("dialled again after %v", d)
		}
		<-s.Closed
		synctest.Wait()
		done := m.do(t.Context(), echoCall)
		m.brokers[0].Expect(mdp.Request).Answer(mdp.Final, []byte("the first still serves"))
		(<-done).mustAnswer(t, "the first still serves")
	})
}
