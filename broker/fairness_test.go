package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Clients take turns: a backlog of one does not delay the first of another.
func TestClientsTakeTurns(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		flood, one, two := m.client(b, "flood"), m.client(b, "1"), m.client(b, "2")
		for i := range 1_000 {
			flood.ask("s", fmt.Sprint("flood ", i))
		}
		m.settle()
		for i := range 3 {
			one.ask("s", fmt.Sprint("one ", i))
			m.settle()
		}
		two.ask("s", "two 0")
		m.settle()
		w := m.worker(b, "s", 1)
		for _, want := range []string{"flood 0", "one 0", "two 0", "flood 1", "one 1", "flood 2", "one 2", "flood 3", "flood 4"} {
			r := w.take()
			if r.body() != want {
				t.Errorf("got %q, want %q", r.body(), want)
			}
			w.answer(r)
		}
	})
}

// Of quick requests a turn has several, of slow ones one. A client that asks for one
// after another gets the same share of a busy worker either way.
func TestTurnsOfQuickRequests(t *testing.T) {
	for run, want := range map[time.Duration]string{
		100 * time.Microsecond: "aaaabbbbaaaabbbb",
		400 * time.Microsecond: "aabbaabb",
		10 * time.Millisecond:  "abababab",
	} {
		t.Run(run.String(), func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				w := m.worker(b, "s", 1)
				one := m.client(b, "o")
				serve := func(then func(*message)) string {
					r := w.take()
					m.pass(run)
					w.answer(r)
					then(r)
					m.settle()
					return r.body()
				}
				again := func(r *message) {
					if r.body() == "o" {
						one.ask("s", "o")
					}
				}
				one.ask("s", "o")
				serve(func(*message) {}) // from now on the mean is known
				for _, name := range []string{"a", "b"} {
					flood := m.client(b, name)
					for range 100 {
						flood.ask("s", name)
					}
					m.settle()
				}
				serve(again) // went to the idle worker, and was no part of a turn
				got := ""
				for range len(want) {
					got += serve(again)
				}
				if got != want {
					t.Errorf("turns are %s, want %s", got, want)
				}
				one.ask("s", "o")
				m.settle()
				ones := 0
				const all = 100
				for range all {
					ones += strings.Count(serve(again), "o")
				}
				if ones < all/5 || ones > all*2/5 {
					t.Errorf("%d of %d requests were of the client that asks for one after another", ones, all)
				}
			})
		})
	}
}

// What a lost worker held goes to the front of its client's line, in its order, and
// does not take others' turns.
func TestRedeliveredKeepToTheirLine(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		one, two := m.client(b, "1"), m.client(b, "2")
		w := m.worker(b, "s", 3)
		for i := range 5 {
			one.ask("s", fmt.Sprint("one ", i))
			m.pass(time.Millisecond)
		}
		for i := range 2 {
			two.ask("s", fmt.Sprint("two ", i))
			m.settle()
		}
		w.close()
		m.settle()
		w = m.worker(b, "s", 1)
		var got []string
		for range 7 {
			r := w.take()
			got = append(got, r.body())
			w.answer(r)
		}
		want := []string{"one 0", "two 0", "one 1", "two 1", "one 2", "one 3", "one 4"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Requests of linked brokers and of clients here go by age, as if all came to one.
func TestGuestsGoByAge(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.dial(b, "p", mdp.Peer, mdp.Native)
		p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "p", Name: "p", Incarnation: "p", Revision: 1})})
		p.expect(mdp.Welcome)
		w := m.worker(b, "s", 1)
		own := m.client(b, "own")
		own.ask("s", "own 0")
		first := w.take()
		q := m.fakePeer(b, "q")
		id := byte(0)
		guest := func(from *peer, body string) {
			id++
			from.ask("s", body, asID(id))
			m.pass(time.Millisecond)
		}
		for i := range 2 {
			guest(p, fmt.Sprint("p ", i))
		}
		guest(q, "q 0")
		for i := range 2 {
			own.ask("s", fmt.Sprint("own ", i+1))
			m.pass(time.Millisecond)
		}
		guest(q, "q 1")
		guest(p, "p 2")
		w.answer(first)
		for _, want := range []string{"p 0", "p 1", "q 0", "own 1", "own 2", "q 1", "p 2"} {
			r := w.take()
			if r.body() != want {
				t.Errorf("got %q, want %q", r.body(), want)
			}
			w.answer(r)
		}
	})
}

// A peer that floods with requests it calls old passes over nobody for long, neither
// clients here nor other peers.
func TestOldGuestsPassOverNobodyForLong(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		flood, q := m.fakePeer(b, "flood"), m.fakePeer(b, "q")
		own := m.client(b, "own")
		w := m.worker(b, "s", 1)
		own.ask("s", "first")
		first := w.take()
		const n = 3 * maxPassed
		for i := range n {
			h := mdp.Head{Token: uint64(i + 1), ID: mdp.RequestID{2, byte(i >> 8), byte(i)}, Attempt: 1, Hops: 1, Load: mdp.Load{ElapsedMs: 60_000}}
			flood.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: h}, "flood")
		}
		m.settle()
		own.ask("s", "own")
		own.ask("s", "own")
		q.ask("s", "q", asID(1))
		m.settle()
		w.answer(first)
		at := map[string][]int{}
		for i := range n + 3 {
			r := w.take()
			at[r.body()] = append(at[r.body()], i)
			w.answer(r)
		}
		for _, last := range []int{at["own"][0], at["q"][0], at["own"][1] - at["own"][0]} {
			if last > maxPassed+3 {
				t.Errorf("somebody was passed over for %d turns: own at %v, q at %v", last, at["own"], at["q"])
			}
		}
	})
}

// Calls made inside the process share one turn.
func TestLocalCallsAreOneClient(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		ended := make(chan error)
		for range 3 {
			go func() { _, err := b.Call(context.Background(), "s", []byte("call")); ended <- err }()
		}
		m.settle()
		c := m.client(b, "c")
		for range 2 {
			c.ask("s", "client")
		}
		m.settle()
		w := m.worker(b, "s", 1)
		for _, want := range []string{"call", "client", "call", "client", "call"} {
			r := w.take()
			if r.body() != want {
				t.Errorf("got %q, want %q", r.body(), want)
			}
			w.answer(r)
		}
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// A full service makes room for a client that has little in it, at the cost of the
// one that has most; that one is told BUSY, and nothing of it was started.
func TestFloodMakesRoom(t *testing.T) {
	const size = 1000
	for name, set := range map[string]func(*Config){
		"requests": func(c *Config) { c.MaxRequests = 10 },
		"octets":   func(c *Config) { c.MaxBytes = 10 * (costOf(size) + requestCost) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b", set)
				flood, other := m.client(b, "flood"), m.client(b, "other")
				for range 10 {
					flood.ask("s", string(make([]byte, size)))
				}
				flood.quiet()
				flood.failed(flood.ask("s", string(make([]byte, size))), mdp.Busy, false) // it has most itself
				m.wantCount(b, "displaced", 0)
				for i := range 5 {
					other.ask("s", string(make([]byte, size)))
					m.settle()
					if e := flood.expect(mdp.Final).err(); e == nil || e.(*mdp.Error).RetryAfter <= 0 || e.(*mdp.Error).MayHaveRun {
						t.Errorf("displaced %d: %v", i, e)
					}
				}
				other.quiet()
				other.failed(other.ask("s", string(make([]byte, size))), mdp.Busy, false) // they are even
				m.wantCount(b, "displaced", 5)
				m.wantCount(b, "busy", 7)
				w := m.worker(b, "s", 10)
				for range 10 {
					w.answer(w.take())
				}
				m.settle()
				m.empty(b)
			})
		})
	}
}

// Nobody is refused for nothing: where the longest line cannot make enough room, down to
// the share of who asks, it is only who asks that is told BUSY.
func TestFloodMakesRoomOrNothing(t *testing.T) {
	const size = 1000
	unit := costOf(size) + requestCost
	for name, test := range map[string]struct {
		asks      int
		set       func(*Config)
		octets    int64
		displaced uint64
	}{
		"enough":             {10, func(c *Config) { c.MaxBytes = 10 * unit }, unit * 9 / 2, 5},
		"not enough":         {10, func(c *Config) { c.MaxBytes = 10 * unit }, unit * 11 / 2, 0},
		"not enough for all": {10, func(c *Config) { c.MaxRequests, c.MaxBytes, c.MaxTotalBytes = 10, 100*unit, 20*unit }, unit * 39 / 2, 0},
		"too many at once":   {3 * portion, func(c *Config) { c.MaxBytes = 3 * portion * unit }, (portion + 1) * unit, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b", test.set)
				flood, other := m.client(b, "flood"), m.client(b, "other")
				for range test.asks {
					flood.ask("s", string(make([]byte, size)))
				}
				m.settle()
				h := other.ask("s", string(make([]byte, test.octets-requestCost)))
				m.settle()
				for range test.displaced {
					if e := flood.expect(mdp.Final).err(); e == nil || e.(*mdp.Error).Status != mdp.Busy {
						t.Errorf("displaced: %v", e)
					}
				}
				flood.quiet()
				if test.displaced == 0 {
					other.failed(h, mdp.Busy, false)
				}
				other.quiet()
				m.wantCount(b, "displaced", test.displaced)
			})
		})
	}
}
