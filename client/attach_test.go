package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// detached makes a detached call that nobody answers in time, and returns its id.
func (m *mesh) detached(t *testing.T, broker int) mdp.RequestID {
	t.Helper()
	o := <-m.do(t.Context(), client.Call{Service: "slow", Detached: true, Timeout: time.Second})
	m.brokers[broker].Expect(mdp.Request)
	var named *client.Error
	if !errors.As(o.err, &named) {
		t.Fatal(o.err)
	}
	return named.ID
}

func (m *mesh) attach(t *testing.T, id mdp.RequestID) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		reply, err := m.Attach(t.Context(), id)
		done <- outcome{reply: reply, err: err}
	}()
	return done
}

// Every broker is asked before the answer is UNKNOWN: the one in use, the warm one,
// and those that are not connected, over connections that end again.
func TestAttachAsksAllBrokers(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, m *mesh) {
		m.brokers[1].Stop()
		for i := range 4 { // the first comes to be in use, the third is warm
			if i != 0 {
				m.brokers[i].Stop()
			}
		}
		first := m.do(t.Context(), echoCall)
		m.request(0).Answer(mdp.Final, []byte("first"))
		(<-first).mustAnswer(t, "first")
		m.start(2)
		m.brokers[2].Expect(mdp.Hello)
		m.start(3)
		m.net.Fault("brokerd", "", memsock.Fault{Delay: 50 * time.Millisecond})
		id := m.detached(t, 0)

		unknown := mdp.Errorf(mdp.Unknown, "no such request")
		done := m.attach(t, id)
		m.brokers[0].Expect(mdp.Attach).Fail(unknown)
		m.brokers[2].Expect(mdp.Attach).Answer(mdp.Final, []byte("from the warm one"))
		(<-done).mustAnswer(t, "from the warm one")

		done = m.attach(t, id)
		m.brokers[0].Expect(mdp.Attach).Fail(unknown)
		m.brokers[2].Expect(mdp.Attach).Fail(unknown)
		m.brokers[3].Expect(mdp.Hello)
		a := m.brokers[3].Expect(mdp.Attach)
		if a.Head.ID != id {
			t.Errorf("asked for %v, want %v", a.Head.ID, id)
		}
		a.Answer(mdp.Final, []byte("from afar"))
		time.Sleep(20 * time.Millisecond)                // the bubble's time
		a.Session.Send(mdp.Command{Kind: mdp.Heartbeat}) // on its way, it keeps the end of the connection back
		(<-done).mustAnswer(t, "from afar")
		m.brokers[3].Expect(mdp.Bye)

		// The connection that has said goodbye, and whose end is not known yet, is none to ask over.
		done = m.attach(t, id)
		m.brokers[0].Expect(mdp.Attach).Fail(unknown)
		m.brokers[2].Expect(mdp.Attach).Fail(unknown)
		m.brokers[3].Expect(mdp.Hello)
		m.brokers[3].Expect(mdp.Attach).Fail(unknown)
		o := <-done
		o.mustFail(t, mdp.Unknown, false)
		for _, part := range []string{"3 brokers", endpoint(1), "refused"} {
			if !strings.Contains(o.err.Error(), part) {
				t.Errorf("%q does not say %q", o.err, part)
			}
		}
	})
}

// A broker that is lost while it is asked is not the last word.
func TestAttachWhenABrokerIsLost(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		id := m.detached(t, 0)
		done := m.attach(t, id)
		m.brokers[0].Expect(mdp.Attach)
		m.brokers[0].Stop()
		m.brokers[1].Expect(mdp.Attach).Fail(mdp.Errorf(mdp.Running, "not done"))
		(<-done).mustFail(t, mdp.Running, false)

		done = m.attach(t, id)
		m.brokers[1].Expect(mdp.Attach)
		m.brokers[1].Stop()
		o := <-done
		o.mustFail(t, mdp.Unknown, false)
		if !strings.Contains(o.err.Error(), "could not ask") {
			t.Errorf("%v", o.err)
		}
	})
}
