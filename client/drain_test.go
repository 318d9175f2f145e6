package client_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
)

// served is a scripted broker that answers after 20 ms, until it is drained.
type served struct {
	*scripted.Broker
	draining atomic.Bool
	over     chan struct{} // closed when the client has said goodbye
}

func serve(b *scripted.Broker) *served {
	s := &served{Broker: b, over: make(chan struct{})}
	go func() {
		defer close(s.over)
		for {
			switch r := b.Next(); {
			case r.Kind == mdp.Bye:
				return
			case r.Kind != mdp.Request:
			case s.draining.Load():
				r.Fail(mdp.Errorf(mdp.NotTaken, "the broker is shutting down"))
			default:
				time.AfterFunc(20*time.Millisecond, func() { r.Answer(mdp.Final, r.Body...) })
			}
		}
	}()
	return s
}

// restart drains the broker, as a real one does: it takes nothing more, says so a
// little later, waits for the client to go, and comes back after two seconds.
func (s *served) restart(m *mesh, i int) *served {
	s.draining.Store(true)
	time.Sleep(20 * time.Millisecond)
	for _, session := range s.Sessions() {
		session.Send(mdp.Command{Kind: mdp.Drain})
	}
	<-s.over
	s.Stop()
	time.Sleep(2 * time.Second)
	return serve(m.start(i))
}

// Two brokers are restarted in turn, twice, under 300 calls a second: no call
// fails, not even a call once, and nothing waits for a broker to come back.
func TestRollingRestart(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		brokers := [2]*served{serve(m.brokers[0]), serve(m.brokers[1])}
		var restarted atomic.Bool
		go func() {
			for n := range 4 {
				time.Sleep(time.Second)
				brokers[n%2] = brokers[n%2].restart(m, n%2)
				time.Sleep(5 * time.Second) // it is the warm one by now
			}
			restarted.Store(true)
		}()
		done := make(chan *client.Pending, 50_000)
		calls := 0
		slowest := make(chan time.Duration)
		go func() {
			var slow time.Duration
			for p := range done {
				if p == nil {
					break
				}
				slow = max(slow, time.Since(began(p)))
				if p.Err != nil {
					t.Error(p.Err)
				}
			}
			slowest <- slow
		}()
		for !restarted.Load() {
			at := time.Now().Format(time.RFC3339Nano)
			m.Go(t.Context(), client.Call{Service: "echo", Once: calls%2 == 0, Body: [][]byte{[]byte(at)}}, done)
			calls++
			time.Sleep(3 * time.Millisecond)
		}
		time.Sleep(time.Second)
		done <- nil
		if slow := <-slowest; slow > 50*time.Millisecond {
			t.Errorf("the slowest call took %v", slow)
		}
		if n := m.Counters(); n.Failovers != 4 || n.Retries == 0 || n.Unretried != 0 || n.Outstanding != 0 {
			t.Errorf("%d calls: %+v", calls, n)
		}
		_ = m.Close()
		<-brokers[0].over
		<-brokers[1].over
		synctest.Wait()
	})
}

// began is when the call was made.
func began(p *client.Pending) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, string(p.Call.Body[0]))
	return at
}

// With no other broker, what was not taken waits for the one that leaves to come back.
func TestOnlyBrokerRestarts(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		const calls = 300 // more than the retry budget
		done := make(chan *client.Pending, calls)
		for range calls {
			m.Go(t.Context(), client.Call{Service: "echo", Once: true, Timeout: time.Minute}, done)
		}
		hello := m.brokers[0].Expect(mdp.Hello)
		hello.Session.Send(mdp.Command{Kind: mdp.Drain})
		for range calls {
			m.brokers[0].Expect(mdp.Request).Fail(mdp.Errorf(mdp.NotTaken, "the broker is shutting down"))
		}
		m.brokers[0].Expect(mdp.Bye)
		m.brokers[0].Stop()
		time.Sleep(5 * time.Second)
		m.start(0)
		m.brokers[0].Expect(mdp.Hello)
		for range calls {
			m.brokers[0].Expect(mdp.Request).Answer(mdp.Final, []byte("back"))
		}
		for range calls {
			if p := <-done; p.Err != nil {
				t.Fatal(p.Err)
			}
		}
		if n := m.Counters(); n.Unretried != 0 || n.Retries != calls {
			t.Errorf("%+v", n)
		}
	})
}
