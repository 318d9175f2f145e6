package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestHello(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		m := s.broker.Expect(mdp.Hello)
		var who mdp.HelloMap
		if err := mdp.DecodeMap(m.Map, &who); err != nil {
			t.Fatal(err)
		}
		if m.Role != mdp.Worker || string(m.Service) != "echo" || m.Head.Status != 4 {
			t.Errorf("HELLO for %q with head %+v", m.Service, m.Head)
		}
		if len(who.Instance) != 16 || who.Concurrency != 4 || who.Scope != "local" || !who.Reads || who.Tags[0] != "blue" || who.PID == 0 {
			t.Errorf("HELLO says %+v", who)
		}
		<-s.Ready()
	}, func(c *worker.Config) { c.Concurrency, c.Scope, c.Tags = 4, "local", []string{"blue"} })
}

func TestRequestAndAnswer(t *testing.T) {
	inBubble(t, func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		deadline, ok := ctx.Deadline()
		left := time.Until(deadline)
		if !ok {
			left = 0
		}
		return append(r.Body, fmt.Appendf(nil, "%s %s %d %v %s", r.Service, r.ID, r.Attempt, left, r.Bytes())), nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		cmd := s.request(func(c *mdp.Command) { c.Head.Attempt, c.Head.Remaining = 2, 1500 })
		session.Send(cmd, []byte("a"), nil, []byte("b"))
		m := s.final(cmd, mdp.OK)
		want := "echo " + cmd.Head.ID.String() + " 2 1.5s ab"
		if len(m.Body) != 4 || string(m.Body[2]) != "b" || string(m.Body[3]) != want {
			t.Errorf("answer %q, want %q", m.Body, want)
		}
		cmd = s.request()
		session.Send(cmd)
		if m = s.final(cmd, mdp.OK); !strings.HasSuffix(string(m.Body[0]), " 1 0s ") {
			t.Errorf("answer %q", m.Body)
		}
		if n := s.Counters(); n.Requests != 2 || n.Answered != 2 || n.Running != 0 {
			t.Errorf("counters %+v", n)
		}
	})
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		handle     worker.Handler
		status     mdp.Status
		text       string
		mayHaveRun bool
	}{
		"plain":     {fails(errors.New("disk full")), mdp.AppError, "disk full", true},
		"own":       {fails(&mdp.Error{Status: mdp.Busy, Text: "later", RetryAfter: time.Second}), mdp.Busy, "later", false},
		"of other":  {fails(fmt.Errorf("call store: %w", mdp.Errorf(mdp.NotTaken, "gone"))), mdp.AppError, "call store: not taken: gone", true},
		"ok":        {fails(&mdp.Error{Text: "fine"}), mdp.AppError, "ok: fine", true},
		"panic":     {func(context.Context, *worker.Request) ([][]byte, error) { panic("at the disco") }, mdp.AppError, "panic: at the disco", true},
		"nil":       {func(context.Context, *worker.Request) ([][]byte, error) { var p *int; *p = 1; return nil, nil }, mdp.AppError, "nil pointer", true},
		"typed nil": {fails((*os.PathError)(nil)), mdp.AppError, "nil pointer", true},
		"bad error": {fails(badError{}), mdp.AppError, "panic: in Error", true},
		"too big":   {func(context.Context, *worker.Request) ([][]byte, error) { return [][]byte{make([]byte, 65<<20)}, nil }, mdp.TooBig, "the answer", true},
		"frames":    {func(context.Context, *worker.Request) ([][]byte, error) { return make([][]byte, 2000), nil }, mdp.TooBig, "the answer", true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, c.handle, func(t *testing.T, s *stage) {
				session := s.hello()
				for range 2 { // the worker lives on
					cmd := s.request()
					session.Send(cmd)
					m := s.final(cmd, c.status)
					var e *mdp.Error
					if !errors.As(mdp.AnswerError(&m.Command), &e) || !strings.Contains(e.Text, c.text) || e.MayHaveRun != c.mayHaveRun || len(m.Body) != 0 {
						t.Errorf("%v, may have run %t", e, e.MayHaveRun)
					}
				}
			})
		})
	}
}

func fails(err error) worker.Handler {
	return func(context.Context, *worker.Request) ([][]byte, error) { return [][]byte{[]byte("not sent")}, err }
}

// badError is an error that cannot even say what it is.
type badError struct{}

func (badError) Error() string { panic("in Error") }

// A nil *mdp.Error in an error says no: the handler has answered.
func TestNilErrorIsNone(t *testing.T) {
	var none *mdp.Error
	inBubble(t, func(context.Context, *worker.Request) ([][]byte, error) { return [][]byte{[]byte("here")}, none }, func(t *testing.T, s *stage) {
		cmd := s.request()
		s.hello().Send(cmd)
		if m := s.final(cmd, mdp.OK); len(m.Body) != 1 || string(m.Body[0]) != "here" {
			t.Errorf("answer %q", m.Body)
		}
	})
}

func TestPartials(t *testing.T) {
	var kept *worker.Request
	inBubble(t, func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		kept = r
		for i := range 3 {
			if err := r.Partial(ctx, fmt.Append(nil, i), []byte("x")); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}, func(t *testing.T, s *stage) {
		cmd := s.request()
		s.hello().Send(cmd)
		for i := range 3 {
			m := s.broker.Expect(mdp.Partial)
			if m.Head.Token != cmd.Head.Token || len(m.Body) != 2 || string(m.Body[0]) != fmt.Sprint(i) {
				t.Errorf("partial %d is %+v %q", i, m.Head, m.Body)
			}
		}
		s.final(cmd, mdp.OK)
		synctest.Wait()
		if err := kept.Partial(t.Context()); err == nil {
			t.Error("a partial is taken after the handler has returned")
		}
		if n := s.Counters().Partials; n != 3 {
			t.Errorf("%d partials", n)
		}
	})
}

// A reader that takes nothing stops Partial, not the memory of the worker.
func TestPartialWaitsForRoom(t *testing.T) {
	inBubble(t, func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		for {
			if err := r.Partial(ctx, make([]byte, 1<<20)); err != nil {
				return [][]byte{make([]byte, 1<<20)}, nil // which waits for room, too
			}
		}
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		s.net.Fault(memsock.Anonymous, "broker", memsock.Fault{Stall: true})
		cmd := s.request(func(c *mdp.Command) { c.Head.Remaining = 2000 })
		session.Send(cmd)
		time.Sleep(2500 * time.Millisecond)
		if n := s.Counters().Partials; n < 8 || n > 20 {
			t.Errorf("%d partials of 1 MiB were taken for a connection that takes nothing", n)
		}
		s.net.Heal(memsock.Anonymous, "broker")
		for n := uint64(0); ; n++ {
			if m := s.broker.Next(); m.Kind == mdp.Final {
				if n != s.Counters().Partials || len(m.Body) != 1 || len(m.Body[0]) != 1<<20 {
					t.Errorf("final with %v behind %d partials", mdp.Status(m.Head.Status), n)
				}
				return
			}
		}
	})
}

func TestConcurrencyIsABound(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *stage) {
		session := s.hello()
		a, b, c := s.request(), s.request(), s.request()
		session.SendAll(a, b, c)
		s.final(c, mdp.NotTaken)
		synctest.Wait()
		if n := s.Counters(); n.Running != 2 || n.NotTaken != 1 {
			t.Errorf("counters %+v", n)
		}
		session.SendAll(cancel(a))
		s.final(a, mdp.Cancelled)
		session.SendAll(cancel(b))
		s.final(b, mdp.Cancelled)
	}, func(c *worker.Config) { c.Concurrency, c.Handler = 2, untilEnd })
}

func TestCancel(t *testing.T) {
	var causes chan error // made in the bubble
	inBubble(t, func(ctx context.Context, _ *worker.Request) ([][]byte, error) {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return [][]byte{[]byte("in vain")}, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		cmd := s.request()
		session.Send(cmd)
		synctest.Wait()
		session.SendAll(cancel(cmd), cancel(cmd))
		m := s.final(cmd, mdp.Cancelled)
		if cause := <-causes; !errors.Is(cause, mdp.Cancelled) || len(m.Body) != 0 {
			t.Errorf("cause %v, answer %q", cause, m.Body)
		}
		session.Send(cancel(cmd)) // too late
		synctest.Wait()
		s.broker.None()
		if n := s.Counters(); n.Cancelled != 1 || n.Late != 1 {
			t.Errorf("counters %+v", n)
		}
	}, func(c *worker.Config) { causes = make(chan error, 1) })
}

// What a worker finds cancelled when it wakes up is not started.
func TestCancelBehindRequest(t *testing.T) {
	inBubble(t, func(_ context.Context, r *worker.Request) ([][]byte, error) {
		if r.ID[15] != 2 {
			t.Errorf("request %v was started", r.ID)
		}
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		synctest.Wait() // until WELCOME is out, so that the following is one write
		a, b, c := s.request(), s.request(), s.request()
		session.SendAll(a, b, c, cancel(a), cancel(c))
		s.final(a, mdp.NotTaken)
		s.final(c, mdp.NotTaken)
		s.final(b, mdp.OK)
		synctest.Wait()
		s.broker.None()
		if n := s.Counters(); n.NotTaken != 2 || n.Answered != 1 {
			t.Errorf("counters %+v", n)
		}
	}, func(c *worker.Config) { c.Concurrency = 3 })
}

func TestDeadline(t *testing.T) {
	inBubble(t, untilEnd, func(t *testing.T, s *stage) {
		cmd := s.request(func(c *mdp.Command) { c.Head.Remaining = 700 })
		session := s.hello()
		session.Send(cmd)
		began := time.Now()
		s.final(cmd, mdp.Expired)
		if d := time.Since(began); d != 700*time.Millisecond {
			t.Errorf("expired after %v, want 700 ms", d)
		}
	})
}

func TestStrangeMessagesAreCounted(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		session := s.hello()
		session.Send(mdp.Command{Kind: mdp.Attach})
		var b zsock.Batch
		_ = session.Conn.Send(&b, [][]byte{[]byte("hello?")}, zsock.Body{})
		b.Flush()
		cmd := s.request()
		session.Send(cmd)
		s.final(cmd, mdp.OK)
		if n := s.Counters(); n.Unknown != 1 || n.Malformed != 1 {
			t.Errorf("counters %+v", n)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := worker.Config{Brokers: []string{"tcp://a:1"}, Service: "echo", Handler: echo}
	for want, spoil := range map[string]func(*worker.Config){
		"no broker":       func(c *worker.Config) { c.Brokers = nil },
		"endpoint":        func(c *worker.Config) { c.Brokers = []string{"a:1"} },
		"0 octets":        func(c *worker.Config) { c.Service = "" },
		"256 octets":      func(c *worker.Config) { c.Service = strings.Repeat("x", 256) },
		"brokers' own":    func(c *worker.Config) { c.Service = "mmi.service" },
		"no handler":      func(c *worker.Config) { c.Handler = nil },
		"concurrency -1":  func(c *worker.Config) { c.Concurrency = -1 },
		"concurrency 655": func(c *worker.Config) { c.Concurrency = 65536 },
		"instances":       func(c *worker.Config) { c.Instances = -1 },
		"scope":           func(c *worker.Config) { c.Scope = "moon" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := worker.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something about %q", err, want)
		}
	}
}

// Many requests at once over TCP and the real broker: each gets its own answer.
func TestThroughABroker(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t)
	mdtest.StartWorker(t, b, "echo", echo, func(c *worker.Config) { c.Concurrency, c.Instances = 8, 2 })
	c := mdtest.Client(t, b)
	errs := make(chan error)
	for i := range 50 {
		go func() {
			var err error
			for n := range 100 {
				body := fmt.Append(nil, i, n)
				var answer [][]byte
				if answer, err = c.Call(t.Context(), "echo", body, body); err != nil {
					break
				}
				if len(answer) != 2 || string(answer[1]) != string(body) {
					err = fmt.Errorf("answer %q, want %q twice", answer, body)
					break
				}
			}
			errs <- err
		}()
	}
	for range 50 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
