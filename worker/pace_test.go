package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/worker"
)

// neighbours is for how long a handler that blocks unexpectedly may delay others.
const neighbours = time.Millisecond

// quickThen is a handler that answers at once, but for requests of attempt 2: those
// wait for release, which is made in the bubble.
type quickThen struct {
	release chan struct{}
	blocked atomic.Int32
}

func (q *quickThen) handle(_ context.Context, r *worker.Request) ([][]byte, error) {
	if r.Attempt == 2 {
		q.blocked.Add(1)
		<-q.release
	}
	return nil, nil
}

// inPace runs f with a worker whose handlers have been quick for a while.
func inPace(t *testing.T, concurrency int, f func(*testing.T, *stage, *scripted.Session, *quickThen)) {
	t.Helper()
	q := new(quickThen)
	inBubble(t, func(ctx context.Context, r *worker.Request) ([][]byte, error) { return q.handle(ctx, r) }, func(t *testing.T, s *stage) {
		q.release = make(chan struct{})
		session := s.hello()
		for range 64 {
			cmd := s.request()
			session.Send(cmd)
			s.final(cmd, mdp.OK)
		}
		synctest.Wait() // an executor that was woken for nothing sleeps again
		f(t, s, session, q)
	}, func(c *worker.Config) { c.Concurrency = concurrency })
}

// blocks is a request whose handler waits for release.
func (s *stage) blocks() mdp.Command {
	return s.request(func(c *mdp.Command) { c.Head.Attempt = 2 })
}

// A handler that blocks after many quick ones delays those behind it, but not for
// long.
func TestQuickHandlerBlocks(t *testing.T) {
	inPace(t, 8, func(t *testing.T, s *stage, session *scripted.Session, q *quickThen) {
		began := time.Now()
		session.SendAll(s.request(), s.blocks(), s.request(), s.request())
		for range 3 {
			if m := s.broker.Expect(mdp.Final); m.Head.Attempt != 1 {
				t.Error("the blocked one has answered")
			}
		}
		if d := time.Since(began); d == 0 || d > neighbours {
			t.Errorf("the others took %v of a clock that nothing but the executors' own timer moves, want some, and %v at most", d, neighbours)
		}
		// Now it is known that they may block: nobody waits for the next one.
		began = time.Now()
		session.SendAll(s.blocks(), s.request())
		s.broker.Expect(mdp.Final)
		if d := time.Since(began); d != 0 {
			t.Errorf("behind the second one that blocked a request took %v", d)
		}
		close(q.release)
		for range 2 {
			s.broker.Expect(mdp.Final)
		}
	})
}

// A while of quick handlers makes looks rarer, and the first one that blocks makes them
// as frequent as before.
func TestRareLooks(t *testing.T) {
	inPace(t, 8, func(t *testing.T, s *stage, session *scripted.Session, q *quickThen) {
		quickly := func(looks int) {
			for range looks {
				session.SendAll(s.request(), s.request())
				s.broker.Expect(mdp.Final)
				s.broker.Expect(mdp.Final)
				time.Sleep(neighbours / 2)
			}
		}
		blocked := func() time.Duration {
			q.release = make(chan struct{})
			first := s.blocks()
			synctest.Wait()
			began := time.Now()
			session.SendAll(first, s.request())
			s.broker.Expect(mdp.Final)
			d := time.Since(began)
			close(q.release)
			s.final(first, mdp.OK)
			return d
		}
		quickly(1_000)
		if d := blocked(); d <= neighbours || d > 4*neighbours {
			t.Errorf("behind the one that blocked after long a request took %v, want more than %v, and %v at most", d, neighbours, 4*neighbours)
		}
		quickly(64)
		if d := blocked(); d == 0 || d > neighbours {
			t.Errorf("behind the one that blocked soon after a request took %v, want some, and %v at most", d, neighbours)
		}
	})
}

// Handlers that all block after many quick ones all get started.
func TestQuickHandlersBlockTogether(t *testing.T) {
	const n = 50
	inPace(t, n, func(t *testing.T, s *stage, session *scripted.Session, q *quickThen) {
		for range 3 {
			q.release = make(chan struct{})
			q.blocked.Store(0)
			var cmds []mdp.Command
			for range n {
				cmds = append(cmds, s.blocks())
			}
			session.SendAll(cmds...)
			time.Sleep(neighbours)
			synctest.Wait()
			if got := q.blocked.Load(); got != n {
				t.Fatalf("%d of %d handlers run", got, n)
			}
			close(q.release)
			for range n {
				s.broker.Expect(mdp.Final)
			}
		}
	})
}

// One that blocks for good does not make those that come later wait.
func TestRequestsBesideABlockedHandler(t *testing.T) {
	inPace(t, 4, func(t *testing.T, s *stage, session *scripted.Session, q *quickThen) {
		session.Send(s.blocks())
		synctest.Wait()
		for range 100 {
			began := time.Now()
			session.SendAll(s.request(), s.request(), s.request())
			for range 3 {
				s.broker.Expect(mdp.Final)
			}
			if d := time.Since(began); d != 0 {
				t.Fatalf("three requests took %v", d)
			}
		}
		close(q.release)
		s.broker.Expect(mdp.Final)
	})
}

// A request that waits behind a handler that blocks can still be cancelled unstarted.
func TestCancelBehindAQuickHandler(t *testing.T) {
	inPace(t, 4, func(t *testing.T, s *stage, session *scripted.Session, q *quickThen) {
		first, second := s.blocks(), s.blocks()
		session.SendAll(first, second)
		synctest.Wait()
		session.Send(cancel(second))
		s.final(second, mdp.NotTaken)
		time.Sleep(2 * neighbours)
		close(q.release)
		s.final(first, mdp.OK)
		if got := q.blocked.Load(); got != 1 {
			t.Errorf("%d handlers were started", got)
		}
	})
}

// A drain finishes what waits behind a handler that blocks.
func TestDrainBehindAQuickHandler(t *testing.T) {
	inPace(t, 4, func(t *testing.T, s *stage, session *scripted.Session, q *quickThen) {
		first, second := s.blocks(), s.request()
		session.SendAll(first, second)
		synctest.Wait()
		s.stop()
		s.broker.Expect(mdp.Drain)
		session.Send(mdp.Command{Kind: mdp.Drain})
		s.final(second, mdp.OK)
		close(q.release)
		s.final(first, mdp.OK)
		s.broker.Expect(mdp.Bye)
		s.end(nil)
	})
}
