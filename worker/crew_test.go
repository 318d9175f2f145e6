package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/worker"
)

// Handlers that arrive in one run and wait for each other all get started.
func TestHandlersOfOneRunWaitForEachOther(t *testing.T) {
	const n = 50
	var running atomic.Int32
	var all chan struct{} // made in the bubble
	inBubble(t, func(context.Context, *worker.Request) ([][]byte, error) {
		if running.Add(1) == n {
			close(all)
		}
		<-all
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		synctest.Wait()
		var cmds []mdp.Command
		for range n {
			cmds = append(cmds, s.request())
		}
		session.SendAll(cmds...)
		for range n {
			s.broker.Expect(mdp.Final)
		}
	}, func(c *worker.Config) { c.Concurrency, all = n, make(chan struct{}) })
}

// The answers of quick handlers do not wait for slow ones of the same run.
func TestQuickAnswersDoNotWait(t *testing.T) {
	for _, slow := range []string{"1", "2", "3", "12", "13", "23"} {
		t.Run(slow, func(t *testing.T) { testQuickAnswers(t, slow) })
	}
}

func testQuickAnswers(t *testing.T, slow string) {
	isSlow := func(id mdp.RequestID) bool { return strings.Contains(slow, fmt.Sprint(id[15])) }
	var release chan struct{} // made in the bubble
	inBubble(t, func(_ context.Context, r *worker.Request) ([][]byte, error) {
		if isSlow(r.ID) {
			<-release
		}
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		synctest.Wait()
		session.SendAll(s.request(), s.request(), s.request())
		for range 3 - len(slow) {
			if m := s.broker.Expect(mdp.Final); isSlow(m.Head.ID) {
				t.Error("a slow one has answered")
			}
		}
		close(release)
		for range slow {
			s.broker.Expect(mdp.Final)
		}
	}, func(c *worker.Config) { c.Concurrency, release = 3, make(chan struct{}) })
}

// The crew of a session grows with what blocks, and works again when that has ended.
func TestCrewGrowsAndShrinks(t *testing.T) {
	const n = 1000
	inBubble(t, func(_ context.Context, r *worker.Request) ([][]byte, error) {
		time.Sleep(time.Duration(r.Attempt) * time.Millisecond)
		return r.Body, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		synctest.Wait()
		for round := range 3 {
			var cmds []mdp.Command
			for i := range n {
				cmds = append(cmds, s.request(func(c *mdp.Command) { c.Head.Attempt = uint16(1 + i%7) }))
			}
			began := time.Now()
			session.SendAll(cmds...)
			for range n {
				s.broker.Expect(mdp.Final)
			}
			if d := time.Since(began); d != 7*time.Millisecond {
				t.Errorf("round %d took %v of a clock that nothing but the handlers moves, want 7 ms", round, d)
			}
			synctest.Wait()
			if round == 0 && runtime.NumGoroutine() > n {
				t.Errorf("%d goroutines are left", runtime.NumGoroutine())
			}
		}
	}, func(c *worker.Config) { c.Concurrency = n })
}

// A handler that ends its goroutine gives an error, and its place back.
func TestGoexit(t *testing.T) {
	inBubble(t, func(_ context.Context, r *worker.Request) ([][]byte, error) {
		if r.ID[15]%2 == 1 {
			runtime.Goexit()
		}
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		for range 3 {
			cmd := s.request()
			session.Send(cmd)
			var e *mdp.Error
			if m := s.final(cmd, mdp.AppError); !errors.As(mdp.AnswerError(&m.Command), &e) || !strings.Contains(e.Text, "ended its goroutine") {
				t.Errorf("%v", e)
			}
			cmd = s.request()
			session.Send(cmd)
			s.final(cmd, mdp.OK)
		}
	})
}

// What a handler has left behind learns that the request is over, and nothing of
// later ones.
func TestContextOfAnAnsweredRequest(t *testing.T) {
	var kept []context.Context
	inBubble(t, func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		kept = append(kept, ctx)
		if r.ID[15] > 40 {
			<-ctx.Done()
		}
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		for range 40 {
			cmd := s.request()
			session.Send(cmd)
			s.final(cmd, mdp.OK)
		}
		synctest.Wait()
		cmd := s.request()
		session.Send(cmd)
		synctest.Wait()
		for i, ctx := range kept {
			over := i < 40
			if i%2 == 0 {
				select {
				case <-ctx.Done():
				default:
					if over {
						t.Errorf("context %d is not done", i)
					}
				}
			}
			if got := ctx.Err(); (got != nil) != over || over && !errors.Is(got, context.Canceled) {
				t.Errorf("context %d of 41 says %v", i, got)
			}
		}
		session.Send(cancel(cmd))
		s.final(cmd, mdp.Cancelled)
	})
}

// Err alone sees the deadline, and stays with what it has said.
func TestErrSeesTheDeadline(t *testing.T) {
	inBubble(t, func(ctx context.Context, _ *worker.Request) ([][]byte, error) {
		before := ctx.Err()
		time.Sleep(200 * time.Millisecond)
		if before != nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, errors.New("not seen")
		}
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return nil, errors.New("not stayed with")
		}
		return nil, ctx.Err()
	}, func(t *testing.T, s *stage) {
		cmd := s.request(func(c *mdp.Command) { c.Head.Remaining = 100 })
		s.hello().Send(cmd)
		s.final(cmd, mdp.Expired)
	})
}

// A probe is answered while handlers use up every processor.
func TestProbeBesideBusyHandlers(t *testing.T) {
	t.Parallel()
	const token = 4711
	b := scripted.Start(t, scripted.Config{Endpoint: "tcp://127.0.0.1:0", Welcome: welcome})
	hogs := 2 * runtime.GOMAXPROCS(0)
	var spinning atomic.Int32
	w, err := worker.New(worker.Config{Brokers: []string{b.Endpoint}, Service: "echo", Concurrency: hogs,
		Handler: func(context.Context, *worker.Request) ([][]byte, error) {
			spinning.Add(1)
			for began := time.Now(); b.Sessions()[0].Echo.Load() != token; {
				if time.Since(began) > 30*time.Second {
					return nil, errors.New("no echo while the handlers run")
				}
			}
			return nil, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	session := b.Expect(mdp.Hello).Session
	for i := range hogs {
		cmd := mdp.Command{Kind: mdp.Request, Service: []byte("echo")}
		cmd.Head.Token = uint64(i)
		session.Send(cmd)
	}
	for spinning.Load() < int32(hogs) {
		runtime.Gosched()
	}
	session.Send(mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: token}})
	for range hogs {
		if m := b.Expect(mdp.Final); m.Head.Status != 0 {
			t.Errorf("final with %v", mdp.AnswerError(&m.Command))
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
