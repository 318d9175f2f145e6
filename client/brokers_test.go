package client_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// named is a WELCOME of a broker of its own that names endpoints.
func named(name string, endpoints, others []string) *mdp.WelcomeMap {
	return &mdp.WelcomeMap{Revision: mdp.Revision, HeartbeatMs: 1000, Name: name, Incarnation: name + "1", Endpoints: endpoints, Others: others}
}

// A client that knows one broker learns of the others, keeps one of them warm, and
// goes there.
func TestLearnedBrokers(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, m *mesh) {
		m.startWith(0, named("a", []string{endpoint(0), "tcp://also-a:1"}, []string{endpoint(1), endpoint(0), "nonsense", "ipc://b", "tcp://127.0.0.1:5"}))
		m.startWith(1, named("b", []string{endpoint(1)}, []string{endpoint(2)}))
		done := m.do(t.Context(), echoCall)
		m.request(0).Answer(mdp.Final, []byte("first"))
		(<-done).mustAnswer(t, "first")
		m.brokers[1].Expect(mdp.Hello)
		synctest.Wait()

		done = m.do(t.Context(), echoCall)
		m.brokers[0].Expect(mdp.Request)
		m.brokers[0].Stop()
		m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, []byte("learned"))
		o := <-done
		o.mustAnswer(t, "learned")
		if o.took != 0 {
			t.Errorf("took %v", o.took)
		}
		// The learned one goes, too: the configured one is not forgotten.
		m.brokers[1].Stop()
		done = m.do(t.Context(), client.Call{Service: "echo", Timeout: time.Hour})
		time.Sleep(time.Minute)
		m.startWith(0, named("a", nil, nil))
		m.request(0).Answer(mdp.Final, []byte("back"))
		(<-done).mustAnswer(t, "back")
		_ = m.Close()
	}, func(c *client.Config) { c.Brokers = []string{endpoint(0)} })
}

// Two names of one broker are no second broker.
func TestOneBrokerByTwoNames(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, m *mesh) {
		same := named("same", []string{endpoint(0), endpoint(1)}, nil)
		m.startWith(0, same)
		m.startWith(1, same)
		done := m.do(t.Context(), echoCall)
		time.Sleep(time.Hour)
		(<-done).mustFail(t, mdp.Expired, true)
		open := 0
		for _, b := range m.brokers {
			if n := len(b.Sessions()); n != 1 {
				t.Errorf("%d connections to %s", n, b.Endpoint)
			}
			for _, s := range b.Sessions() {
				select {
				case <-s.Closed:
				default:
					open++
				}
			}
		}
		if open != 1 {
			t.Errorf("%d connections are open", open)
		}
		_ = m.Close()
	}, func(c *client.Config) { c.Brokers = []string{endpoint(0), endpoint(1)} })
}

func TestKnownBrokersAreBounded(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, m *mesh) {
		many := func(from int) (endpoints []string) {
			for i := range 60 {
				endpoints = append(endpoints, fmt.Sprintf("tcp://other%d:1", from+i))
			}
			return endpoints
		}
		for round := range 3 {
			m.startWith(0, named("a", nil, many(100*round)))
			done := m.do(t.Context(), client.Call{Service: "echo", Timeout: time.Hour})
			m.request(0).Answer(mdp.Final, []byte("a"))
			(<-done).mustAnswer(t, "a")
			time.Sleep(10 * time.Minute) // all of them are tried meanwhile
			m.brokers[0].Stop()
		}
		o := <-m.do(t.Context(), echoCall)
		tried, _, _ := strings.Cut(o.err.Error(), ": last error")
		if !strings.Contains(tried, endpoint(0)+", tcp://dead:1, tcp://other") || !strings.HasSuffix(tried, "and 56 more") {
			t.Errorf("want the configured brokers and 62 learned ones: %v", o.err)
		}
		_ = m.Close()
	}, func(c *client.Config) { c.Brokers = []string{endpoint(0), "tcp://dead:1"} })
}

// Idle, warm connections beat every 15 s.
func TestWarmConnectionBeats(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		s := m.brokers[1].Sessions()[0]
		time.Sleep(time.Minute)
		before := s.Heartbeats.Load()
		time.Sleep(5 * time.Minute)
		if n := s.Heartbeats.Load() - before; n < 19 || n > 21 {
			t.Errorf("%d heartbeats in 5 min", n)
		}
	})
}

// Two thousand calls a second, and one of two brokers dies: no call fails.
func TestBrokerKilledUnderLoad(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		const calls, every = 8000, 500 * time.Microsecond
		for _, b := range m.brokers {
			go func() {
				for range 2 * calls {
					r := b.Next()
					if r.Kind == mdp.Bye {
						return
					}
					if r.Kind == mdp.Request {
						time.AfterFunc(20*time.Millisecond, func() { r.Answer(mdp.Final, r.Body...) })
					}
				}
			}()
		}
		done := make(chan *client.Pending, calls)
		for i := range calls {
			if i == calls/2 {
				m.net.Refuse("brokera", true)
				m.net.Reset(memsock.Anonymous, "brokera")
			}
			m.Go(t.Context(), echoCall, done)
			time.Sleep(every)
		}
		for range calls {
			if p := <-done; p.Err != nil {
				t.Fatal(p.Err)
			}
		}
		n := m.Counters()
		if n.Failovers != 1 || n.Retries < 30 || n.Retries > 50 || n.Unretried != 0 {
			t.Errorf("%+v", n)
		}
		m.net.Refuse("brokera", false)
		time.Sleep(5 * time.Second) // it is connected again, to be told goodbye
		_ = m.Close()
	})
}

func TestMaxMessage(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		o := <-m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 4096)}})
		o.mustFail(t, mdp.TooBig, false)
		if o.took != 0 || !strings.Contains(o.err.Error(), "MaxMessage") {
			t.Errorf("%v after %v", o.err, o.took)
		}
		m.brokers[0].None()
		done := m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 3000)}})
		r := m.request(0)
		r.Answer(mdp.Final, []byte("fits"))
		(<-done).mustAnswer(t, "fits")
	}, func(c *client.Config) { c.MaxMessage = 4096 })
}

// An answer beyond the bound is its call's alone, and final: another attempt would cost
// another connection. What else was outstanding is tried again once.
func TestAnswerIsTooBig(t *testing.T) {
	for name, call := range map[string]client.Call{
		"call": {Service: "huge"}, "once": {Service: "huge", Once: true}, "detached": {Service: "huge", Detached: true},
	} {
		for _, kind := range []mdp.Kind{mdp.Final, mdp.Partial} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				inBubble(t, 1, func(t *testing.T, m *mesh) {
					beside := m.do(t.Context(), echoCall)
					r := m.request(0)
					done := m.do(t.Context(), call)
					m.brokers[0].Expect(mdp.Request).Answer(kind, make([]byte, 3000), make([]byte, 1097))
					o := <-done
					o.mustFail(t, mdp.TooBig, true)
					if o.took != 0 || !strings.Contains(o.err.Error(), "the answer") {
						t.Errorf("%v after %v", o.err, o.took)
					}
					again := m.request(0)
					if again.Head.ID != r.Head.ID || again.Head.Attempt != 2 {
						t.Errorf("again is %+v, was %+v", again.Head, r.Head)
					}
					again.Answer(mdp.Final, []byte("here"))
					(<-beside).mustAnswer(t, "here")
					m.brokers[0].None()
				}, func(c *client.Config) { c.MaxMessage = 4096 })
			})
		}
	}
}
