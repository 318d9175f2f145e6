package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func host(i int) string { return "broker" + string(rune('a'+i)) }

// once is a call that must not run twice, of a size.
func once(octets int) client.Call {
	return client.Call{Service: "echo", Body: [][]byte{make([]byte, octets)}, Once: true, Timeout: time.Minute}
}

// stall stops what goes to broker i, the one in use, with half of a request on its
// way. Not an octet of what is asked from now on is written.
func (m *mesh) stall(i int) (half <-chan outcome) {
	m.net.Fault(memsock.Anonymous, host(i), memsock.Fault{Stall: true})
	half = m.do(m.t.Context(), once(1<<20))
	synctest.Wait()
	return half
}

// stallWarm does the same to the second of two brokers while the first is in use: that
// one does not take a large request.
func (m *mesh) stallWarm() (half <-chan outcome) {
	half = m.do(m.t.Context(), once(1<<20))
	r := m.brokers[0].Expect(mdp.Request)
	m.net.Fault(memsock.Anonymous, host(1), memsock.Fault{Stall: true})
	r.Fail(mdp.Errorf(mdp.NotTaken, "no room"))
	synctest.Wait()
	return half
}

// cut ends the connections to broker i.
func (m *mesh) cut(i int) {
	synctest.Wait()
	m.net.Reset(memsock.Anonymous, host(i))
	synctest.Wait()
}

// connected has a client that knows its only broker.
func connected(t *testing.T, f func(t *testing.T, m *mesh)) {
	t.Helper()
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		m.request(0).Answer(mdp.Final, []byte("first"))
		(<-done).mustAnswer(t, "first")
		f(t, m)
	})
}

// What was never written when its connection ends cannot have run: it goes to the
// other broker at once, as the attempt it was, also what may run once only, however
// large it is and whoever waits for it.
func TestUnwrittenGoesElsewhere(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		half := m.stall(0)
		small, large := m.do(t.Context(), once(10)), m.do(t.Context(), once(100<<10))
		p := m.Go(t.Context(), once(100<<10), nil)
		m.cut(0)
		(<-half).mustFail(t, mdp.BrokerLost, true)
		for range 3 {
			r := m.brokers[1].Expect(mdp.Request)
			if r.Head.Attempt != 1 || r.Head.Flags != mdp.FlagOnce {
				t.Errorf("the other broker got %+v", r.Head)
			}
			r.Answer(mdp.Final, []byte("second"))
		}
		(<-small).mustAnswer(t, "second")
		(<-large).mustAnswer(t, "second")
		<-p.Done()
		outcome{reply: p.Reply, err: p.Err}.mustAnswer(t, "second")
		if n := m.Counters(); n.Unwritten != 3 || n.Retries != 0 || n.Failovers != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// Without another broker it waits for the next connection.
func TestUnwrittenWaitsForTheNextConnection(t *testing.T) {
	connected(t, func(t *testing.T, m *mesh) {
		half := m.stall(0)
		done := m.do(t.Context(), once(10))
		m.cut(0)
		(<-half).mustFail(t, mdp.BrokerLost, true)
		m.net.Heal(memsock.Anonymous, host(0))
		r := m.request(0)
		if r.Head.Attempt != 1 {
			t.Errorf("attempt %d", r.Head.Attempt)
		}
		r.Answer(mdp.Final, []byte("back"))
		(<-done).mustAnswer(t, "back")
	})
}

// However the wait ends, nobody is told that it may have run.
func TestUnwrittenHasNotRun(t *testing.T) {
	connected(t, func(t *testing.T, m *mesh) {
		half := m.stall(0)
		ctx, cancel := context.WithCancel(t.Context())
		cancelled, late := m.do(ctx, once(10)), m.do(t.Context(), once(10))
		again := m.do(t.Context(), echoCall)
		m.cut(0)
		(<-half).mustFail(t, mdp.BrokerLost, true)
		cancel()
		(<-cancelled).mustFail(t, mdp.Cancelled, false)
		for _, done := range []<-chan outcome{late, again} {
			o := <-done
			var e *mdp.Error
			if !errors.Is(o.err, client.ErrNoBroker) || errors.As(o.err, &e) && e.MayHaveRun {
				t.Error(o.err)
			}
		}
		if n := m.Counters(); n.Cancels != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// An earlier attempt that may have run is not forgotten.
func TestUnwrittenAfterAnAttempt(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		half := m.stallWarm()
		done := m.do(t.Context(), echoCall)
		m.brokers[0].Expect(mdp.Request)
		m.brokers[0].Stop()
		m.cut(1)
		(<-half).mustFail(t, mdp.BrokerLost, true)
		o := <-done
		o.mustFail(t, mdp.BrokerLost, true)
		if n := m.Counters(); !errors.Is(o.err, client.ErrNoBroker) || n.Unwritten != 1 {
			t.Errorf("%v, %+v", o.err, n)
		}
	})
}

// Nothing was sent, so nothing is sent again: the budget is not touched, also when
// one connection after another ends.
func TestUnwrittenCostsNoBudget(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		const calls = 300 // more than the retry budget
		halves := []<-chan outcome{m.stallWarm(), m.stall(0)}
		done := make(chan *client.Pending, calls)
		for i := range calls {
			call := once(10)
			call.Once = i%2 == 0
			m.Go(t.Context(), call, done)
		}
		m.cut(0)
		m.cut(1)
		for _, half := range halves {
			(<-half).mustFail(t, mdp.BrokerLost, true)
		}
		m.net.Heal(memsock.Anonymous, host(1))
		m.brokers[1].Expect(mdp.Hello)
		for range calls {
			r := m.brokers[1].Expect(mdp.Request)
			if r.Head.Attempt != 1 {
				t.Fatalf("attempt %d", r.Head.Attempt)
			}
			r.Answer(mdp.Final, []byte("back"))
		}
		for range calls {
			if p := <-done; p.Err != nil {
				t.Fatal(p.Err)
			}
		}
		// One retry: of what the first broker did not take.
		if n := m.Counters(); n.Unwritten != 2*calls || n.Retries != 1 || n.Unretried != 0 {
			t.Errorf("%+v", n)
		}
	})
}
