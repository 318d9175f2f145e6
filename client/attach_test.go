package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/worker"
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

// A detached call whose connection ends goes on at a broker that lives: asked again
// there, it fetches the answer.
func TestDetachedOutlivesItsConnection(t *testing.T) {
	known := mdp.Errorf(mdp.Conflict, "this detached request is known already")
	for name, end := range map[string]struct {
		answer func(*scripted.Message)
		check  func(*testing.T, outcome)
	}{
		"answer": {
			func(a *scripted.Message) { a.Answer(mdp.Final, []byte("kept")) },
			func(t *testing.T, o outcome) { o.mustAnswer(t, "kept") },
		},
		"error": {
			func(a *scripted.Message) { a.Fail(&mdp.Error{Status: mdp.PeerLost, MayHaveRun: true}) },
			func(t *testing.T, o outcome) { o.mustFail(t, mdp.PeerLost, true) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			connected(t, func(t *testing.T, m *mesh) {
				done := m.do(t.Context(), client.Call{Service: "slow", Body: [][]byte{make([]byte, 100<<10)}, Detached: true, Timeout: time.Minute})
				first := m.brokers[0].Expect(mdp.Request)
				m.cut(0)
				m.request(0).Fail(known)
				for range 3 {
					a := m.brokers[0].Expect(mdp.Attach)
					if a.Head.ID != first.Head.ID || len(a.Body) != 0 {
						t.Errorf("ATTACH with head %+v and %d frames", a.Head, len(a.Body))
					}
					a.Fail(mdp.Errorf(mdp.Running, "not answered yet"))
				}
				for range 3 { // more often than it may be tried: none of these was a try
					m.brokers[0].Expect(mdp.Attach)
					m.cut(0)
					if r := m.request(0); r.Head.Attempt != 2 {
						t.Errorf("attempt %d", r.Head.Attempt)
					} else {
						r.Fail(known)
					}
				}
				end.answer(m.brokers[0].Expect(mdp.Attach))
				o := <-done
				end.check(t, o)
				if o.took > time.Second {
					t.Errorf("after %v", o.took)
				}
				m.brokers[0].None()
			})
		})
	}
}

// While it waits to ask again, its broker may be lost: then it is a request, for the
// other one.
func TestDetachedLosesItsBrokerToo(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "slow", Detached: true, Timeout: time.Minute})
		m.brokers[0].Expect(mdp.Request)
		m.cut(0)
		r := m.brokers[1].Expect(mdp.Request)
		r.Fail(mdp.Errorf(mdp.Conflict, "it has come another way"))
		m.brokers[1].Expect(mdp.Attach).Fail(mdp.Errorf(mdp.Running, "not answered yet"))
		m.brokers[0].Expect(mdp.Hello)
		synctest.Wait()
		m.brokers[1].Stop()
		m.brokers[0].Expect(mdp.Request).Answer(mdp.Final, []byte("anew"))
		(<-done).mustAnswer(t, "anew")
	})
}

// Through the real broker: the call runs once, and its answer comes.
func TestDetachedThroughABroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := memsock.New()
		b := mdtest.StartBroker(t, func(c *broker.Config) {
			c.Listen, c.Publish, c.Subscribe, c.Network = []string{"tcp://broker:5555"}, nil, nil, net
		})
		runs := 0
		mdtest.StartWorker(t, b, "slow", func(context.Context, *worker.Request) ([][]byte, error) {
			runs++
			time.Sleep(time.Second) // the bubble's time
			return [][]byte{[]byte("done")}, nil
		}, func(c *worker.Config) { c.Network = net.Host("worker") })
		p := mdtest.Client(t, b).Go(t.Context(), client.Call{Service: "slow", Detached: true, Timeout: time.Minute}, nil)
		synctest.Wait()
		if n := net.Reset(memsock.Anonymous, "broker"); n != 1 {
			t.Errorf("%d connections were cut", n)
		}
		<-p.Done()
		if p.Err != nil || string(p.Reply.Body[0]) != "done" || runs != 1 {
			t.Errorf("%+v, %v after %d runs", p.Reply, p.Err, runs)
		}
	})
}
