package client_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// The broker counts attempts as well: the next one of the client is the next of all, as
// answers and parts of answers tell.
func TestAttemptsGoOnFromTheBrokers(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo"})
		r := m.brokers[0].Expect(mdp.Request)
		r.Head.Attempt = 2
		r.Fail(&mdp.Error{Status: mdp.PeerLost, MayHaveRun: true})
		r = m.brokers[0].Expect(mdp.Request)
		if r.Head.Attempt != 3 {
			t.Errorf("attempt %d after 2 of the broker", r.Head.Attempt)
		}
		r.Answer(mdp.Final, []byte("done"))
		o := <-done
		o.mustAnswer(t, "done")

		done = m.do(t.Context(), client.Call{Service: "echo", Restartable: true})
		r = m.brokers[0].Expect(mdp.Request)
		r.Head.Attempt = 2
		r.Answer(mdp.Partial, []byte("of a second worker"))
		synctest.Wait()
		m.brokers[0].Stop()
		r = m.brokers[1].Expect(mdp.Request)
		if r.Head.Attempt != 3 {
			t.Errorf("attempt %d after a partial of attempt 2", r.Head.Attempt)
		}
		r.Answer(mdp.Partial, []byte("anew"))
		r.Answer(mdp.Final, []byte("done"))
		o = <-done
		o.mustAnswer(t, "done")
		if len(o.reply.Partials) != 1 || string(o.reply.Partials[0][0]) != "anew" || o.reply.Attempt != 3 {
			t.Errorf("%+v", o.reply)
		}
	})
}

// A request has three attempts in all, whoever has made them: the caller is told how
// the third one ended. What never ran was none.
func TestThreeAttemptsInAll(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		lost := &mdp.Error{Status: mdp.PeerLost, Text: "gone", MayHaveRun: true}
		done := m.do(t.Context(), echoCall)
		m.brokers[0].Expect(mdp.Hello)
		m.brokers[0].Expect(mdp.Request).Fail(lost)
		m.brokers[0].Expect(mdp.Request).Fail(mdp.Errorf(mdp.NotTaken, "not now"))
		m.brokers[0].Expect(mdp.Request).Fail(lost)
		r := m.brokers[0].Expect(mdp.Request)
		if r.Head.Attempt != 3 {
			t.Errorf("attempt %d is the third", r.Head.Attempt)
		}
		r.Fail(lost)
		o := <-done
		o.mustFail(t, mdp.PeerLost, true)
		if text := o.err.Error(); !strings.Contains(text, "gone; not tried again: it has had all its 3 attempts") {
			t.Errorf("%q does not say why", text)
		}
		if n := m.Counters(); n.Retries != 3 || n.Unretried != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// One retry for ten recent calls, and at least ten a second, which is a hundred in
// the ten seconds that are recent.
func TestRetryBudget(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		const calls, allowed = 300, 100
		done := make(chan *client.Pending, calls)
		for range calls {
			m.Go(t.Context(), echoCall, done)
		}
		m.brokers[0].Expect(mdp.Hello)
		for range calls {
			m.brokers[0].Expect(mdp.Request).Fail(mdp.Errorf(mdp.Busy, "full"))
		}
		for range calls - allowed {
			p := <-done
			outcome{err: p.Err}.mustFail(t, mdp.Busy, false)
			if text := p.Err.Error(); !strings.Contains(text, "full; not tried again: the retry budget is spent") {
				t.Fatalf("%q does not name the budget", text)
			}
		}
		for range allowed {
			m.brokers[0].Expect(mdp.Request).Answer(mdp.Final, []byte("now"))
		}
		for range allowed {
			if p := <-done; p.Err != nil {
				t.Error(p.Err)
			}
		}
		if n := m.Counters(); n.Retries != allowed || n.Unretried != calls-allowed {
			t.Errorf("%+v", n)
		}
	})
}

// A broker that is lost or leaves takes along what it has: that does not cost the budget.
func TestLossIsFree(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		const calls = 400
		done := make(chan *client.Pending, 2*calls)
		for range calls {
			m.Go(t.Context(), echoCall, done)
		}
		for range calls {
			m.brokers[0].Expect(mdp.Request)
		}
		m.brokers[0].Stop()
		for range calls {
			m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, []byte("second"))
		}
		for range calls {
			if p := <-done; p.Err != nil {
				t.Fatal(p.Err)
			}
		}
		if n := m.Counters(); n.Retries != calls || n.Unretried != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// A large request that is not taken waits for the broker that takes as much: the other
// one may not have said how much it takes, or takes less.
func TestNotTakenDoesNotGoWhereItDoesNotFit(t *testing.T) {
	for name, other := range map[string]*mdp.WelcomeMap{
		"no welcome": nil,
		"small":      {Revision: mdp.Revision, HeartbeatMs: 1000, MaxMessage: 270 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, func(t *testing.T, m *mesh) {
				m.brokers[1].Stop()
				first := m.do(t.Context(), echoCall)
				m.request(0).Answer(mdp.Final, []byte("first"))
				(<-first).mustAnswer(t, "first")
				m.startWith(1, other)
				m.brokers[1].Expect(mdp.Hello)
				synctest.Wait()
				done := m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 300<<10)}})
				m.brokers[0].Expect(mdp.Request).Fail(mdp.Errorf(mdp.NotTaken, "no room"))
				m.brokers[0].Expect(mdp.Request).Answer(mdp.Final, []byte("now"))
				(<-done).mustAnswer(t, "now")
				m.brokers[1].None()
			})
		})
	}
}

// What is not taken goes elsewhere at once, also before the broker says DRAIN.
func TestNotTakenGoesToTheOtherBroker(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Once: true})
		m.brokers[0].Expect(mdp.Request).Fail(mdp.Errorf(mdp.NotTaken, "no room"))
		r := m.brokers[1].Expect(mdp.Request)
		if r.Head.Attempt != 1 {
			t.Errorf("attempt %d of what never started", r.Head.Attempt)
		}
		r.Answer(mdp.Final, []byte("second"))
		o := <-done
		o.mustAnswer(t, "second")
		if o.took != 0 || m.Counters().Failovers != 0 {
			t.Errorf("took %v, %+v", o.took, m.Counters())
		}
	})
}
