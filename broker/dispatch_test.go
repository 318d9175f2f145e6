package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

func TestCall(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "echo", 1)
		c := m.client(b, "c")
		h := c.ask("echo", "hello", within(5*time.Second))
		r := w.take()
		if r.body() != "hello" || r.Head.Attempt != 1 || r.Head.ID != h.ID || r.Head.Remaining != 5000 || string(r.Service) != "echo" {
			t.Errorf("request at the worker: %+v %q", r.Head, r.body())
		}
		w.partial(r, "first")
		w.answer(r, "world", "wide")
		if p := c.expect(mdp.Partial); p.body() != "first" || p.Head.Token != h.Token || p.Head.Attempt != 1 {
			t.Errorf("partial %+v %q", p.Head, p.body())
		}
		if f := c.answered(h, mdp.OK, "world|wide"); f.Head.Attempt != 1 || len(f.Service) != 0 {
			t.Errorf("final %+v with service %q", f.Head, f.Service)
		}
		m.empty(b)
		m.wantCount(b, "answered", 1)
	})
}

func TestRequestMayComeBeforeWelcome(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "echo", 1)
		c := m.dial(b, "c", mdp.Client, mdp.Native)
		c.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "c"})})
		h := c.ask("echo", "x")
		c.expect(mdp.Welcome)
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
	})
}

// The least recently used of the idle workers comes first, and an idle one before
// one that has room beside something running.
func TestDispatchOrder(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		one, two := m.worker(b, "s", 2), m.worker(b, "s", 2)
		c := m.client(b, "c")
		want := func(w *peer, body string) *message {
			t.Helper()
			c.ask("s", body)
			m.settle()
			if len(w.got) != 1 {
				t.Fatalf("request %s went to the wrong worker", body)
			}
			return w.take()
		}
		a := want(one, "a") // both idle: the one that waits longest
		want(two, "b")      // idle before partly busy
		one.answer(a)
		c.expect(mdp.Final)
		want(one, "c") // idle again
		want(two, "d") // both have one: two got its one first
		want(one, "e")
		c.ask("s", "f") // nobody has room
		one.quiet()
		two.quiet()
		if st := b.Services()[0]; st.Queue != 1 || st.Running != 4 {
			t.Errorf("state %+v", st)
		}
	})
}

// Where all workers run something, quick requests go to one worker for a turn, and
// others to one after another.
func TestWorkersTakeTurns(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		turn  int
	}{{time.Millisecond, maxWorkerTurn}, {10 * time.Millisecond, 1}} {
		t.Run(test.takes.String(), func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				one, two := m.worker(b, "s", 30), m.worker(b, "s", 30)
				c := m.client(b, "c")
				c.ask("s", "warm")
				m.pass(test.takes)
				one.answer(one.take())
				c.expect(mdp.Final)
				c.ask("s", "both")
				c.ask("s", "busy")
				m.settle()
				turns, last := []int{0}, -1 // lengths, and who had one more request last
				held := [2]int{len(one.got), len(two.got)}
				for range 4 * maxWorkerTurn {
					c.ask("s", "x")
					m.settle()
					who := 0
					if len(two.got) > held[1] {
						who = 1
					}
					held = [2]int{len(one.got), len(two.got)}
					if who != last && last >= 0 {
						turns = append(turns, 0)
					}
					turns[len(turns)-1]++
					last = who
				}
				for i, n := range turns[1 : len(turns)-1] {
					if n != test.turn && i > 0 {
						t.Errorf("turns of %v, want %d each", turns, test.turn)
						break
					}
				}
			})
		})
	}
}

func TestNeverBeyondCredit(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 3)
		c := m.client(b, "c")
		for range 10 {
			c.ask("s", "x")
		}
		m.settle()
		if n := len(w.got); n != 3 {
			t.Fatalf("%d requests at a worker of concurrency 3", n)
		}
		first := w.take()
		w.send(mdp.Command{Kind: mdp.Credit, Head: mdp.Head{Status: 5}})
		m.settle()
		if n := len(w.got); n != 4 {
			t.Errorf("%d more after CREDIT 5, want 4 with what was there", n)
		}
		w.send(mdp.Command{Kind: mdp.Credit, Head: mdp.Head{Status: 2}})
		w.answer(first)
		m.settle()
		if n := len(w.got); n != 4 {
			t.Errorf("%d waiting after CREDIT 2 and one answer, want still 4", n)
		}
		if err := b.find([]byte("s")).check(); err != nil {
			t.Error(err)
		}
	})
}

func TestQueueIsServedInOrder(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		c.ask("s", "1")
		c.ask("s", "2")
		c.ask("s", "3")
		w := m.worker(b, "s", 1)
		for _, want := range []string{"1", "2", "3"} {
			r := w.take()
			if r.body() != want {
				t.Errorf("got %s, want %s", r.body(), want)
			}
			w.answer(r)
		}
	})
}

// took fails the test unless so much time has passed: the bubble's, so that what is to
// happen at once takes none at all, on whatever machine.
func took(t *testing.T, began time.Time, least, most time.Duration) {
	t.Helper()
	if d := time.Since(began); d < least || d > most {
		t.Errorf("it took %v, want %v to %v", d, least, most)
	}
}

// costOf is the memory that a body of one frame with so many octets takes.
func costOf(size int) int64 {
	body := zsock.NewBody(make([]byte, size))
	defer body.Release()
	return int64(body.Cost())
}

func TestBounds(t *testing.T) {
	big := string(make([]byte, 1000))
	for name, test := range map[string]struct {
		set  func(*Config)
		fits int
	}{
		"requests":     {func(c *Config) { c.MaxRequests = 2 }, 2},
		"octets":       {func(c *Config) { c.MaxBytes = 3 * (costOf(1000) + requestCost) }, 3},
		"octets total": {func(c *Config) { c.MaxTotalBytes = 8 * (costOf(1000) + requestCost) }, 4}, // of one client: half
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b", test.set)
				c := m.client(b, "c")
				for range test.fits {
					c.ask("s", big)
				}
				c.quiet()
				began := time.Now()
				e := c.failed(c.ask("s", big), mdp.Busy, false)
				if e.RetryAfter <= 0 {
					t.Error("BUSY without retry_ms")
				}
				took(t, began, 0, 0)
				m.wantCount(b, "busy", 1)
				w := m.worker(b, "s", 1) // there is room again when one is answered
				w.answer(w.take())
				c.expect(mdp.Final)
				c.ask("s", big)
				c.quiet()
			})
		})
	}
}

func TestServicesAreBoundedAndForgotten(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxServices = 2 })
		c := m.client(b, "c")
		one, two := c.ask("one", "x", within(3*time.Second)), c.ask("two", "x", within(4*time.Second))
		c.failed(c.ask("three", "x"), mdp.Busy, false)
		c.failed(one, mdp.Expired, false)
		c.failed(two, mdp.Expired, false)
		m.pass(3 * time.Second)
		if n := len(b.allServices()); n != 0 {
			t.Fatalf("%d services are still known", n)
		}
		h := c.ask("two", "x") // the connection remembers the service it used last
		w := m.worker(b, "two", 1)
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		m.wantCount(b, "requests", 3)
	})
}

func TestDeadlineInQueue(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		began := time.Now()
		c.failed(c.ask("s", "x", within(300*time.Millisecond)), mdp.Expired, false)
		took(t, began, 300*time.Millisecond, 350*time.Millisecond)
		m.empty(b)
	})
}

func TestDeadlineWhileRunning(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		began := time.Now()
		h := c.ask("s", "x", within(300*time.Millisecond))
		r := w.take()
		c.failed(h, mdp.Expired, true)
		took(t, began, 300*time.Millisecond, 350*time.Millisecond)
		if k := w.expect(mdp.Cancel); k.Head.Token != r.Head.Token {
			t.Errorf("cancelled token %d, want %d", k.Head.Token, r.Head.Token)
		}
		next := c.ask("s", "y")
		w.quiet() // its place is taken until it answers
		w.refuse(r, &mdp.Error{Status: mdp.Cancelled})
		w.answer(w.take(), "z")
		c.answered(next, mdp.OK, "z")
		m.wantCount(b, "late", 0) // what was cancelled may say so
		m.empty(b)
	})
}

func TestNoWait(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		began := time.Now()
		c.failed(c.ask("s", "x", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
		took(t, began, 0, 0)
		w := m.worker(b, "s", 1)
		one, two := c.ask("s", "x", flags(mdp.FlagNoWait)), c.ask("s", "x", flags(mdp.FlagNoWait))
		w.answer(w.take(), "1") // busy is not absent
		c.answered(one, mdp.OK, "1")
		w.answer(w.take(), "2")
		c.answered(two, mdp.OK, "2")
		w.send(mdp.Command{Kind: mdp.Drain}) // nor is a worker that leaves a worker
		m.settle()
		began = time.Now()
		c.failed(c.ask("s", "x", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
		took(t, began, 0, 0)
	})
}

func TestCancel(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		running, queued, last := c.ask("s", "1"), c.ask("s", "2"), c.ask("s", "3")
		r := w.take()
		c.cancelRequest(queued)
		c.cancelRequest(running)
		c.cancelRequest(mdp.Head{Token: 99})
		w.expect(mdp.Cancel)
		w.answer(r, "late")
		if got := w.take(); got.body() != "3" {
			t.Errorf("got %q next", got.body())
		} else {
			w.answer(got, "three")
		}
		c.answered(last, mdp.OK, "three")
		c.quiet()
		m.wantCount(b, "late", 1)
		m.wantCount(b, "cancelled", 2)
		m.empty(b)
	})
}

// With many outstanding, CANCEL finds its request by an index.
func TestCancelAmongMany(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		var heads []mdp.Head
		for i := range 200 {
			heads = append(heads, c.ask("s", string(rune('A'+i%26))))
		}
		for _, h := range heads[:150] {
			c.cancelRequest(h)
		}
		late := c.ask("s", "late")
		c.cancelRequest(late)
		m.settle()
		if n := b.Services()[0].Queue; n != 50 {
			t.Errorf("%d are queued, want 50", n)
		}
		for _, h := range heads[150:] {
			c.cancelRequest(h)
		}
		m.empty(b)
		if b.allConns()[0].byToken != nil {
			t.Error("the index outlives what it is for")
		}
	})
}

func TestClientThatClosesCancels(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		c.ask("s", "running")
		c.ask("s", "queued")
		r := w.take()
		c.close()
		w.expect(mdp.Cancel)
		w.refuse(r, &mdp.Error{Status: mdp.Cancelled})
		w.quiet()
		m.wantCount(b, "cancelled", 2)
		m.empty(b)
	})
}

func TestErrorsOfHandlersHaveRun(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x")
		w.refuse(w.take(), &mdp.Error{Status: mdp.AppError, Text: "out of paper"})
		if e := c.failed(h, mdp.AppError, true); e.Text != "out of paper" {
			t.Errorf("text %q", e.Text)
		}
	})
}
