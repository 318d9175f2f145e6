package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	lib "github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// crowd is workers and clients of the public libraries, and the history of every
// call they make: who answered, how often it ran.
type crowd struct {
	*mesh
	ctx     context.Context
	running sync.WaitGroup

	mu     sync.Mutex
	runs   map[string][]int // attempts started, by the text of the call
	calls  int
	errors map[mdp.Status]int
}

// inCrowd runs a script with a crowd, which goes home at its end.
func inCrowd(t *testing.T, script func(c *crowd)) {
	inBubble(t, func(m *mesh) {
		ctx, cancel := context.WithCancel(context.Background())
		c := &crowd{mesh: m, ctx: ctx, runs: make(map[string][]int), errors: make(map[mdp.Status]int)}
		defer c.running.Wait()
		defer cancel()
		script(c)
	})
}

// work starts a worker that takes d for each request.
func (c *crowd) work(b *Broker, places int, d time.Duration) {
	c.t.Helper()
	w, err := lib.New(lib.Config{Brokers: []string{"tcp://" + b.name + ":1"}, Service: "s", Concurrency: places, Network: c.net.Host("w-" + b.name),
		Handler: func(ctx context.Context, r *lib.Request) ([][]byte, error) {
			c.mu.Lock()
			c.runs[string(r.Body[0])] = append(c.runs[string(r.Body[0])], r.Attempt)
			c.mu.Unlock()
			time.Sleep(d)
			return r.Body, nil
		}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.running.Go(func() { w.Run(c.ctx) })
}

// ask makes n callers call for d, one call after the other, and waits for them.
func (c *crowd) ask(b *Broker, n int, d time.Duration, once bool) {
	c.t.Helper()
	until := time.Now().Add(d)
	var callers sync.WaitGroup
	for i := range n {
		who := fmt.Sprintf("%s %d %t", b.name, i, once)
		cl, err := client.New(client.Config{Brokers: []string{"tcp://" + b.name + ":1"}, Timeout: 20 * time.Second, Network: c.net.Host("c-" + b.name)})
		if err != nil {
			c.t.Fatal(err)
		}
		callers.Go(func() {
			defer cl.Close()
			for k := 0; time.Now().Before(until); k++ {
				text := fmt.Sprint(who, " ", k)
				reply, err := cl.Do(c.ctx, client.Call{Service: "s", Body: [][]byte{[]byte(text)}, Once: once})
				c.judge(text, reply, err, once)
			}
		})
	}
	callers.Wait()
}

func (c *crowd) judge(text string, reply *client.Reply, err error, once bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	runs := c.runs[text]
	var e *mdp.Error
	switch {
	case once && len(runs) > 1:
		c.t.Errorf("%s ran %d times", text, len(runs))
	case err == nil && (len(reply.Body) != 1 || string(reply.Body[0]) != text || len(runs) == 0):
		c.t.Errorf("%s was answered %q after %d runs", text, reply.Body, len(runs))
	case errors.As(err, &e):
		c.errors[e.Status]++
	case err != nil:
		c.t.Errorf("%s: %v", text, err)
	}
	seen := map[int]bool{}
	for _, attempt := range runs {
		if seen[attempt] || attempt < 1 || attempt > maxAttempts {
			c.t.Errorf("%s ran as attempts %v", text, runs)
		}
		seen[attempt] = true
	}
}

// A ring of five: requests go two links far, round no circle, and run once each.
func TestRing(t *testing.T) {
	inCrowd(t, func(c *crowd) {
		var ring []*Broker
		for i := range 5 {
			ring = append(ring, c.broker(fmt.Sprint("r", i), peers(fmt.Sprint("r", (i+1)%5))))
		}
		for i, b := range ring {
			c.up(b, 2)
			if i != 0 {
				c.work(b, 2, 10*time.Millisecond)
			}
		}
		c.pass(3 * time.Second)
		c.ask(ring[0], 12, 5*time.Second, false) // more than its neighbours' four places
		for text, runs := range c.runs {
			if len(runs) != 1 || runs[0] != 1 {
				t.Fatalf("%s ran as attempts %v", text, runs)
			}
		}
		offloaded := uint64(0)
		for i, b := range ring {
			n := c.count(b, "offloaded")
			if offloaded += n; (i == 1 || i == 4) && n == 0 {
				t.Errorf("%s sent nothing on", b.name)
			}
			c.empty(b)
		}
		// NOT_TAKEN sends some a second time; a circle would send all of them for ever.
		if len(c.errors) > 0 || offloaded > uint64(c.calls)*3 {
			t.Errorf("%d calls, errors %v, %d times sent on", c.calls, c.errors, offloaded)
		}
		t.Logf("%d calls, %d times sent on", c.calls, offloaded)
		// Eight places of 10 ms, for twelve callers: two links are no hindrance.
		if c.calls < 3000 {
			t.Errorf("%d calls in 5 s, of 4,000 possible", c.calls)
		}
	})
}

// Edges that only dial out share their workers through a hub without any.
func TestHubAndSpokes(t *testing.T) {
	inCrowd(t, func(c *crowd) {
		hub := c.broker("hub")
		var edges []*Broker
		for i := range 4 {
			edges = append(edges, c.broker(fmt.Sprint("e", i), peers("hub")))
		}
		c.up(hub, 4)
		for _, e := range edges[1:] {
			c.work(e, 4, 10*time.Millisecond)
		}
		c.pass(3 * time.Second)
		c.ask(edges[0], 10, 5*time.Second, false)
		t.Logf("%d calls", c.calls)
		if len(c.errors) > 0 || c.calls < 4000 {
			t.Errorf("%d calls in 5 s, of 5,000 possible; errors %v", c.calls, c.errors)
		}
		for _, b := range append(edges, hub) {
			c.empty(b)
		}
	})
}

// One broker has two workers, the other eight, of 20 ms: sixteen callers at the
// first get most of what both can do.
func TestTwoAndEight(t *testing.T) {
	inCrowd(t, func(c *crowd) {
		a, b := linked(c.mesh)
		c.work(a, 2, 20*time.Millisecond)
		c.work(b, 8, 20*time.Millisecond)
		c.pass(2 * time.Second)
		c.ask(a, 16, 5*time.Second, false)
		t.Logf("%d calls", c.calls)
		if c.calls < 370*5 || len(c.errors) > 0 {
			t.Errorf("%d calls in 5 s, of 2,500 possible; errors %v", c.calls, c.errors)
		}
	})
}

// A link that comes and goes, is cut in one direction, or in both: every call is
// answered, one that may run once only is answered or refused with PEER_LOST, and
// work goes on afterwards as before.
func TestTroubledLink(t *testing.T) {
	for name, trouble := range map[string]func(c *crowd){
		"flapping": func(c *crowd) {
			for range 20 {
				c.net.Reset("a", "b")
				c.pass(300 * time.Millisecond)
			}
		},
		"partitions": func(c *crowd) {
			for range 2 {
				c.net.Partition("a", "b")
				c.pass(5 * time.Second)
				c.net.Heal("a", "b")
				c.pass(2 * time.Second)
			}
		},
		"one way out": func(c *crowd) {
			c.net.Fault("a", "b", memsock.Fault{Discard: true})
			c.pass(5 * time.Second)
			c.net.Heal("a", "b")
		},
		"one way back": func(c *crowd) {
			c.net.Fault("b", "a", memsock.Fault{Discard: true})
			c.pass(5 * time.Second)
			c.net.Heal("a", "b")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inCrowd(t, func(c *crowd) {
				a, b := linked(c.mesh)
				c.work(a, 2, 10*time.Millisecond)
				c.work(b, 8, 10*time.Millisecond)
				c.pass(2 * time.Second)
				asking := sync.WaitGroup{}
				asking.Go(func() { c.ask(a, 8, 18*time.Second, false) })
				asking.Go(func() { c.ask(a, 4, 18*time.Second, true) })
				c.pass(time.Second)
				trouble(c)
				c.pass(2 * time.Second)
				c.wantLink(a, "b", linkUp, "")
				c.wantLink(b, "a", linkUp, "")
				before := c.count(b, "answered")
				c.pass(time.Second)
				if c.count(b, "answered") == before {
					t.Error("nothing goes over the link again")
				}
				asking.Wait()
				for status, n := range c.errors {
					if status != mdp.PeerLost {
						t.Errorf("%d calls failed with %v", n, status)
					}
				}
				for text, runs := range c.runs {
					if len(runs) > maxAttempts {
						t.Errorf("%s ran %d times", text, len(runs))
					}
				}
				t.Logf("%d calls, errors %v", c.calls, c.errors)
				c.pass(time.Second)
				c.empty(a)
				c.empty(b)
			})
		})
	}
}
