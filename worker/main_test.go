package worker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const endpoint = "tcp://broker:5555"

var welcome = &mdp.WelcomeMap{Revision: mdp.Revision, HeartbeatMs: 1000, Name: "scripted"}

// stage is a worker with a scripted broker in a network in memory.
type stage struct {
	*worker.Worker
	t      *testing.T
	net    *memsock.Net
	broker *scripted.Broker
	token  uint64
	stop   context.CancelFunc
	ended  chan error
	once   sync.Once
}

// inBubble runs f in a synctest bubble, with a worker whose handler is handle.
func inBubble(t *testing.T, handle worker.Handler, f func(t *testing.T, s *stage), options ...func(*worker.Config)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, net: memsock.New(), ended: make(chan error, 1)}
		s.start(welcome)
		cfg := worker.Config{Brokers: []string{endpoint}, Service: "echo", Handler: handle, Network: s.net, Logger: logging.Test(t)}
		for _, option := range options {
			option(&cfg)
		}
		w, err := worker.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.Worker = w
		ctx, cancel := context.WithCancel(t.Context())
		s.stop = cancel
		go func() { s.ended <- w.Run(ctx) }()
		t.Cleanup(func() {
			s.broker.Stop() // also ends drains that f has not looked at
			s.end(nil)
		})
		f(t, s)
	})
}

// start starts the broker, again if it was stopped.
func (s *stage) start(says *mdp.WelcomeMap) {
	s.broker = scripted.Start(s.t, scripted.Config{Endpoint: endpoint, Network: s.net, Welcome: says})
}

// end stops the worker and checks what Run returns.
func (s *stage) end(want error) {
	s.t.Helper()
	s.once.Do(func() {
		s.stop()
		if err := <-s.ended; !errors.Is(err, want) || (want == nil) != (err == nil) {
			s.t.Errorf("run: %v, want %v", err, want)
		}
	})
}

// hello waits for the worker's session.
func (s *stage) hello() *scripted.Session {
	s.t.Helper()
	m := s.broker.Expect(mdp.Hello)
	return m.Session
}

// request is a command that dispatches a request with a new token.
func (s *stage) request(options ...func(*mdp.Command)) mdp.Command {
	s.token++
	cmd := mdp.Command{Kind: mdp.Request, Service: []byte("echo")}
	cmd.Head.Token, cmd.Head.Attempt, cmd.Head.ID = s.token, 1, mdp.RequestID{15: byte(s.token)}
	for _, option := range options {
		option(&cmd)
	}
	return cmd
}

// cancel is a command that cancels what cmd has dispatched.
func cancel(cmd mdp.Command) mdp.Command {
	c := mdp.Command{Kind: mdp.Cancel}
	c.Head.Token, c.Head.ID = cmd.Head.Token, cmd.Head.ID
	return c
}

// final waits for the final of cmd and checks its status.
func (s *stage) final(cmd mdp.Command, want mdp.Status) *scripted.Message {
	s.t.Helper()
	m := s.broker.Expect(mdp.Final)
	if m.Head.Token != cmd.Head.Token || m.Head.ID != cmd.Head.ID || m.Head.Attempt != cmd.Head.Attempt {
		s.t.Errorf("final with head %+v answers %+v", m.Head, cmd.Head)
	}
	if mdp.Status(m.Head.Status) != want {
		s.t.Errorf("final with %v (%v), want %v", mdp.Status(m.Head.Status), mdp.AnswerError(&m.Command), want)
	}
	return m
}

func echo(_ context.Context, r *worker.Request) ([][]byte, error) { return r.Body, nil }

// untilEnd waits for the end of its context and answers with the cause.
func untilEnd(ctx context.Context, _ *worker.Request) ([][]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
