package worker_test

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

func TestHeartbeats(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		session := s.hello()
		time.Sleep(time.Minute)
		if n := session.Heartbeats.Load(); n < 58 || n > 60 {
			t.Errorf("%d heartbeats in a minute", n)
		}
		s.broker.None()
	})
}

// A probe is answered at once, also while a handler runs.
func TestProbe(t *testing.T) {
	inBubble(t, untilEnd, func(t *testing.T, s *stage) {
		session := s.hello()
		cmd := s.request()
		session.Send(cmd)
		synctest.Wait()
		began := time.Now()
		session.Send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: 77}})
		synctest.Wait()
		if token := session.Echo.Load(); token != 77 || time.Since(began) != 0 {
			t.Errorf("echo of token %d after %v", token, time.Since(began))
		}
		session.Send(cancel(cmd))
		s.final(cmd, mdp.Cancelled)
	})
}

func TestSilentBroker(t *testing.T) {
	inBubble(t, untilEnd, func(t *testing.T, s *stage) {
		session := s.hello()
		session.Send(s.request())
		synctest.Wait()
		session.Silent.Store(true)
		began := time.Now()
		<-session.Closed
		if d := time.Since(began); d < 3*time.Second || d > 3500*time.Millisecond {
			t.Errorf("left a silent broker after %v, want 3 to 3.5 beats of 1 s", d)
		}
		s.hello()
		if n := s.Counters(); n.Silences != 1 || n.Lost != 1 {
			t.Errorf("counters %+v", n)
		}
	})
}

// The handler learns that its broker is lost; its result is dropped, and counted.
func TestLostBroker(t *testing.T) {
	var causes chan error // made in the bubble
	inBubble(t, func(ctx context.Context, _ *worker.Request) ([][]byte, error) {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil, nil
	}, func(t *testing.T, s *stage) {
		s.hello().Send(s.request())
		synctest.Wait()
		s.broker.Stop()
		if cause := <-causes; !errors.Is(cause, mdp.BrokerLost) {
			t.Errorf("cause %v", cause)
		}
		time.Sleep(10 * time.Second)
		s.start(welcome)
		began := time.Now()
		session := s.hello()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("reconnected after %v, want 2 s at most", d)
		}
		cmd := s.request()
		session.SendAll(cmd, cancel(cmd))
		s.broker.Expect(mdp.Final)
		s.broker.None()
		if n := s.Counters(); n.Lost != 1 || n.Connects != 2 {
			t.Errorf("counters %+v", n)
		}
	}, func(*worker.Config) { causes = make(chan error, 10) })
}

// A handler that does not stop when its broker is lost keeps its place: the next
// session offers one place less, and the rest when it has stopped.
func TestPlacesOutliveConnections(t *testing.T) {
	var release chan struct{} // made in the bubble
	inBubble(t, func(context.Context, *worker.Request) ([][]byte, error) {
		<-release
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		a, b := s.request(), s.request()
		session.SendAll(a, b)
		synctest.Wait()
		session.Conn.Close(nil)
		time.Sleep(10 * time.Second)
		s.broker.None() // no place, no session
		release <- struct{}{}
		m := s.broker.Expect(mdp.Hello)
		if m.Head.Status != 1 {
			t.Errorf("offers %d places while a lost request still has one of two", m.Head.Status)
		}
		c := s.request()
		m.Session.Send(c)
		release <- struct{}{}
		release <- struct{}{}
		credit, final := s.broker.Next(), s.broker.Next()
		if credit.Kind == mdp.Final {
			credit, final = final, credit
		}
		if credit.Kind != mdp.Credit || credit.Head.Status != 2 || final.Kind != mdp.Final {
			t.Errorf("%v with %d, %v", credit.Kind, credit.Head.Status, final.Kind)
		}
		if n := s.Counters(); n.Lost != 2 || n.Answered != 1 {
			t.Errorf("counters %+v", n)
		}
	}, func(c *worker.Config) { c.Concurrency, release = 2, make(chan struct{}) })
}

// A broker that is shutting down is asked again, even if it is the only one.
func TestRefusedForNow(t *testing.T) {
	t.Parallel()
	for _, status := range []mdp.Status{mdp.NotTaken, mdp.Busy} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{t: t, net: memsock.New(), ended: make(chan error, 1)}
			s.start(nil)
			w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: "echo", Handler: echo, Network: s.net})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			go func() { s.ended <- w.Run(ctx) }()
			refusal := mdp.Command{Kind: mdp.Welcome}
			refusal.SetError(mdp.Errorf(status, "not now"))
			for range 5 {
				s.hello().Send(refusal)
			}
			s.hello().Send(mdp.Command{Kind: mdp.Welcome, Map: mdp.EncodeMap(welcome)})
			<-w.Ready()
			stop()
			if err := <-s.ended; err != nil {
				t.Error(err)
			}
			s.broker.Stop()
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, status := range []mdp.Status{mdp.Denied, mdp.BadRequest} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{t: t, net: memsock.New(), ended: make(chan error, 1)}
			s.start(nil)
			w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: "echo", Handler: echo, Network: s.net})
			if err != nil {
				t.Fatal(err)
			}
			go func() { s.ended <- w.Run(t.Context()) }()
			refusal := mdp.Command{Kind: mdp.Welcome}
			refusal.SetError(mdp.Errorf(status, "not here"))
			s.hello().Send(refusal)
			err = <-s.ended
			if !errors.Is(err, status) || !strings.Contains(err.Error(), endpoint) {
				t.Errorf("run: %v", err)
			}
			s.broker.Stop()
		})
	}
}

// With another broker that wants it, a worker goes on, and asks again.
func TestRefusedByOneOfTwo(t *testing.T) {
	const other = "tcp://other:5555"
	inBubble(t, echo, func(t *testing.T, s *stage) {
		grumpy := scripted.Start(t, scripted.Config{Endpoint: other, Network: s.net})
		session := s.hello()
		refusal := mdp.Command{Kind: mdp.Welcome}
		refusal.SetError(mdp.Errorf(mdp.Denied, "not here"))
		for range 3 {
			grumpy.Expect(mdp.Hello).Session.Send(refusal)
		}
		cmd := s.request()
		session.Send(cmd)
		s.final(cmd, mdp.OK)
		grumpy.Expect(mdp.Hello).Session.Send(mdp.Command{Kind: mdp.Welcome, Map: mdp.EncodeMap(welcome)})
		synctest.Wait()
		if n := s.Counters(); n.Refusals != 3 || n.Connects != 2 {
			t.Errorf("counters %+v", n)
		}
		grumpy.Stop()
	}, func(c *worker.Config) { c.Brokers = append(c.Brokers, other) })
}

func TestInstances(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		seen := make(map[*scripted.Session]bool)
		for range 3 {
			seen[s.hello()] = true
		}
		if len(seen) != 3 {
			t.Errorf("%d sessions", len(seen))
		}
	}, func(c *worker.Config) { c.Instances = 3 })
}

// A context is real only when somebody looks at it, and behaves the same.
func TestContexts(t *testing.T) {
	type key struct{}
	inBubble(t, func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		child, cancel := context.WithTimeout(context.WithValue(ctx, key{}, 1), time.Hour)
		defer cancel()
		if child.Err() != nil || context.Cause(ctx) != nil {
			return nil, errors.New("has ended before it began")
		}
		<-child.Done()
		if !errors.Is(child.Err(), ctx.Err()) || !errors.Is(context.Cause(child), context.Cause(ctx)) {
			return nil, errors.New("child and parent differ")
		}
		return nil, mdp.Errorf(mdp.Conflict, "%v %v", ctx.Err(), context.Cause(ctx))
	}, func(t *testing.T, s *stage) {
		cmd := s.request(func(c *mdp.Command) { c.Head.Remaining = 100 })
		s.hello().Send(cmd)
		var e *mdp.Error
		if m := s.final(cmd, mdp.Conflict); !errors.As(mdp.AnswerError(&m.Command), &e) || e.Text != "context deadline exceeded context deadline exceeded" {
			t.Errorf("%v", e)
		}
	})
}

// An answer that is larger than the broker takes would cost the connection.
func TestAnswerIsTooBigForTheBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		says := *welcome
		says.MaxMessage = 1 << 20
		s := &stage{t: t, net: memsock.New(), ended: make(chan error, 1)}
		s.start(&says)
		w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: "echo", Network: s.net,
			Handler: func(context.Context, *worker.Request) ([][]byte, error) { return [][]byte{make([]byte, 1<<20)}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { s.ended <- w.Run(ctx) }()
		session := s.hello()
		<-w.Ready()
		cmd := s.request()
		session.Send(cmd)
		s.final(cmd, mdp.TooBig)
		stop()
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
		s.broker.Stop()
	})
}

// A broker with a larger bound than usual: its workers take what it takes, both ways.
func TestMessagesAsLargeAsTheBrokerSays(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t, func(c *broker.Config) { c.MaxMessage = 80 << 20 })
	w := mdtest.StartWorker(t, b, "echo", echo)
	c := mdtest.Client(t, b, func(c *client.Config) { c.MaxMessage = 80 << 20 })
	reply, err := c.Do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 70<<20)}, Once: true, Timeout: time.Minute})
	if err != nil || sizeOf(reply.Body) != 70<<20 {
		t.Fatal(err)
	}
	if n := w.Counters(); n.Connects != 1 || n.Answered != 1 {
		t.Errorf("%+v", n)
	}
}

func sizeOf(frames [][]byte) (octets int) {
	for _, f := range frames {
		octets += len(f)
	}
	return octets
}

// A handler that looks at its context for the first time when that has ended.
func TestContextIsLookedAtLate(t *testing.T) {
	var release chan struct{} // made in the bubble
	inBubble(t, func(ctx context.Context, _ *worker.Request) ([][]byte, error) {
		<-release
		if ctx.Err() == nil || !errors.Is(context.Cause(ctx), mdp.Cancelled) {
			t.Errorf("context ended with %v because of %v", ctx.Err(), context.Cause(ctx))
		}
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		cmd := s.request()
		session.Send(cmd)
		synctest.Wait()
		session.Send(cancel(cmd))
		synctest.Wait()
		close(release)
		s.final(cmd, mdp.Cancelled)
	}, func(*worker.Config) { release = make(chan struct{}) })
}

// A request beyond what the worker has places for, whose body was not kept, is not
// started without it when a place becomes free in the same read.
func TestRequestWithoutItsBody(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		synctest.Wait()
		first, second, beyond := s.request(), s.request(), s.request()
		session.SendAll(first, second, beyond, cancel(first))
		s.final(first, mdp.NotTaken)
		s.final(beyond, mdp.NotTaken)
		s.final(second, mdp.OK)
	}, func(c *worker.Config) { c.Concurrency = 2 })
}
