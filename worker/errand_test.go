package worker_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/worker"
)

// byReader tells whether the calling handler is run by the connection's reader.
func byReader() bool {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, ".runErrand") {
			return true
		}
		if !more {
			return false
		}
	}
}

// gate is where handlers wait until it is opened.
type gate struct {
	waits chan struct{} // gets one value for each handler that comes
	open  func()
}

// await waits until n more handlers have come.
func (g *gate) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.waits:
		case <-time.After(time.Minute):
			t.Fatal("a handler was not started")
		}
	}
}

// last is the request whose handler was run last.
var last atomic.Pointer[worker.Request]

// overTCP runs f with a worker whose reader is a poller, and whose handlers count as
// instant: requests of attempt 2 wait at the gate, those of attempt 3 end
// their goroutine, and all others answer "reader" or "executor".
func overTCP(t *testing.T, concurrency, instances int, f func(s *stage, sessions []*scripted.Session, g *gate)) {
	opened := make(chan struct{})
	g := &gate{make(chan struct{}, concurrency*instances), sync.OnceFunc(func() { close(opened) })}
	last.Store(nil)
	s := &stage{t: t, ended: make(chan error, 1)}
	s.broker = scripted.Start(t, scripted.Config{Endpoint: "tcp://127.0.0.1:0", Welcome: welcome})
	w, err := worker.New(worker.Config{Brokers: []string{s.broker.Endpoint}, Service: "echo", Concurrency: concurrency, Instances: instances, DrainTimeout: -1,
		Handler: func(_ context.Context, r *worker.Request) ([][]byte, error) {
			worker.SetPace(r, 1)
			last.Store(r)
			switch {
			case r.Attempt == 2:
				g.waits <- struct{}{}
				<-opened
			case r.Attempt == 3:
				runtime.Goexit()
			case byReader():
				return [][]byte{[]byte("reader")}, nil
			}
			return [][]byte{[]byte("executor")}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.Worker = w
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() { s.ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		g.open()
		s.end(nil)
	})
	sessions := make([]*scripted.Session, instances)
	for i := range sessions {
		sessions[i] = s.hello()
	}
	for _, session := range sessions {
		s.quicken(session)
	}
	f(s, sessions, g)
}

// quicken sends requests until the reader runs one.
func (s *stage) quicken(session *scripted.Session) {
	s.t.Helper()
	for range 100_000 {
		cmd := s.request()
		session.Send(cmd)
		if string(s.final(cmd, mdp.OK).Body[0]) == "reader" {
			return
		}
	}
	s.t.Fatal("the reader runs no handler")
}

// A handler that blocks where the reader runs it delays others, but not for ever: the
// connection is read on, and once it has returned all is as before.
func TestHandlerBlocksTheReader(t *testing.T) {
	overTCP(t, 8, 1, func(s *stage, sessions []*scripted.Session, g *gate) {
		blocked := s.blocks()
		sessions[0].Send(blocked)
		for range 3 {
			sessions[0].SendAll(s.request(), s.request())
			for range 2 {
				if m := s.broker.Expect(mdp.Final); m.Head.Attempt != 1 {
					t.Error("the blocked one has answered")
				}
			}
		}
		g.open()
		s.final(blocked, mdp.OK)
		s.quicken(sessions[0])
	})
}

// Handlers that all block, one reader after the other, all get started.
func TestHandlersBlockReaders(t *testing.T) {
	const n = 8
	overTCP(t, n+1, 1, func(s *stage, sessions []*scripted.Session, g *gate) {
		var cmds []mdp.Command
		for range n {
			cmd := s.blocks()
			cmds = append(cmds, cmd)
			sessions[0].Send(cmd)
			g.await(t, 1)
			quick := s.request()
			sessions[0].Send(quick)
			s.final(quick, mdp.OK)
		}
		g.open()
		for range cmds {
			s.broker.Expect(mdp.Final)
		}
		s.quicken(sessions[0])
	})
}

// A handler that ends its goroutine does not take the reader with it.
func TestHandlerExitsAtTheReader(t *testing.T) {
	overTCP(t, 4, 1, func(s *stage, sessions []*scripted.Session, _ *gate) {
		for range 3 {
			cmd := s.request(func(c *mdp.Command) { c.Head.Attempt = 3 })
			sessions[0].Send(cmd)
			s.final(cmd, mdp.AppError)
			if n := s.Counters().Running; n != 0 {
				t.Errorf("%d handlers run", n)
			}
			s.quicken(sessions[0])
		}
	})
}

// Handlers of many sessions that block at once, one of which keeps the reader from the
// others for long: all get started, and all sessions are read on.
func TestHandlersBlockTheReaderOfMany(t *testing.T) {
	const n = 16
	overTCP(t, 2, n, func(s *stage, sessions []*scripted.Session, g *gate) {
		for _, session := range sessions {
			session.Send(s.blocks())
		}
		g.await(t, n)
		for _, session := range sessions {
			quick := s.request()
			session.Send(quick)
			s.final(quick, mdp.OK)
		}
		g.open()
		for range sessions {
			s.broker.Expect(mdp.Final)
		}
	})
}

// A handler that ends its goroutine at the reader is answered once, also where the next
// errand finds nothing to do.
func TestOneAnswerOfAHandlerThatExits(t *testing.T) {
	overTCP(t, 4, 1, func(s *stage, sessions []*scripted.Session, _ *gate) {
		exits := s.request(func(c *mdp.Command) { c.Head.Attempt = 3 })
		sessions[0].Send(exits)
		s.final(exits, mdp.AppError)
		worker.ErrandInVain(last.Load())
		quick := s.request()
		sessions[0].Send(quick)
		s.final(quick, mdp.OK)
	})
}
