package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

var echoCall = client.Call{Service: "echo", Body: [][]byte{[]byte("hello"), []byte("mesh")}}

func TestCallOnTheWire(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Body: echoCall.Body, Timeout: 1500*time.Millisecond + 1, Once: true, NoWait: true, Detached: true, Restartable: true})
		hello := m.brokers[0].Expect(mdp.Hello)
		var who mdp.HelloMap
		if err := mdp.DecodeMap(hello.Map, &who); err != nil || len(who.Instance) != 16 || who.PID == 0 || who.Revision != mdp.Revision {
			t.Errorf("HELLO says %+v, %v", who, err)
		}
		r := m.brokers[0].Expect(mdp.Request)
		if string(r.Service) != "echo" || len(r.Body) != 2 || string(r.Body[1]) != "mesh" {
			t.Errorf("request for %q: %q", r.Service, r.Body)
		}
		flags := mdp.FlagOnce | mdp.FlagNoWait | mdp.FlagDetached | mdp.FlagRestartable
		if r.Role != mdp.Client || r.Head.Attempt != 1 || r.Head.Remaining != 1451 || r.Head.Flags != flags {
			t.Errorf("request with head %+v", r.Head)
		}
		if who.Instance == r.Head.ID.String()[:16] {
			t.Error("the instance id can be read off the request id")
		}
		r.Answer(mdp.Final, []byte("answer"))
		o := <-done
		o.mustAnswer(t, "answer")
		if o.reply.ID != r.Head.ID || o.reply.Attempt != 1 {
			t.Errorf("reply %+v", o.reply)
		}
	})
}

func TestManyCallsAnswersInAnyOrder(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		const n = 50
		done := make(chan *client.Pending, n)
		for i := range n {
			m.Go(t.Context(), client.Call{Service: "echo", Body: [][]byte{{byte(i)}}}, done)
		}
		m.brokers[0].Expect(mdp.Hello)
		tokens := make(map[uint64]bool)
		for i := range n {
			r := m.brokers[0].Expect(mdp.Request)
			tokens[r.Head.Token] = true
			if i%2 == 0 {
				defer r.Answer(mdp.Final, r.Body...) // too late, after the client has closed
				continue
			}
			r.Answer(mdp.Final, r.Body...)
		}
		if len(tokens) != n {
			t.Errorf("%d tokens for %d outstanding requests", len(tokens), n)
		}
		for range n / 2 {
			p := <-done
			if p.Err != nil || p.Reply.Body[0][0] != p.Call.Body[0][0] || p.Reply.ID != p.ID {
				t.Errorf("call %v: %+v, %v", p.Call.Body, p.Reply, p.Err)
			}
		}
		_ = m.Close()
		for range n / 2 {
			if p := <-done; !errors.Is(p.Err, client.ErrClosed) {
				t.Errorf("call %v after Close: %v", p.Call.Body, p.Err)
			}
		}
	})
}

func TestDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		ctx  time.Duration // deadline of the context
		call time.Duration
		want time.Duration
		told time.Duration // to the broker: its answer is to come first
	}{
		"default":         {0, 0, 5 * time.Second, 4950 * time.Millisecond},
		"call":            {0, 30 * time.Millisecond, 30 * time.Millisecond, 27 * time.Millisecond},
		"context":         {2 * time.Minute, 0, 2 * time.Minute, 2*time.Minute - 50*time.Millisecond},
		"call is earlier": {time.Minute, time.Second, time.Second, 950 * time.Millisecond},
		"context earlier": {time.Second, time.Minute, time.Second, 950 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, m *mesh) {
				ctx := t.Context()
				if c.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.ctx)
					defer cancel()
				}
				done := m.do(ctx, client.Call{Service: "slow", Timeout: c.call})
				r := m.request(0)
				if got := time.Duration(r.Head.Remaining) * time.Millisecond; got != c.told {
					t.Errorf("the request has %v left, want %v", got, c.told)
				}
				o := <-done
				o.mustFail(t, mdp.Expired, true)
				if o.took != c.want {
					t.Errorf("expired after %v, want %v", o.took, c.want)
				}
				cancel := m.brokers[0].Expect(mdp.Cancel)
				if cancel.Head.Token != r.Head.Token || cancel.Head.ID != r.Head.ID {
					t.Errorf("CANCEL of %x %v, want %x %v", cancel.Head.Token, cancel.Head.ID, r.Head.Token, r.Head.ID)
				}
				r.Answer(mdp.Final)
				synctest.Wait()
				if n := m.Counters(); n.Late != 1 || n.Cancels != 1 || n.Outstanding != 0 {
					t.Errorf("counters %+v", n)
				}
			})
		})
	}
}

// undated is a context that does not say when it ends.
type undated struct{ context.Context }

func (undated) Deadline() (time.Time, bool) { return time.Time{}, false }

// A deadline with a cause of its own is a deadline.
func TestDeadlineWithACause(t *testing.T) {
	cause := errors.New("tea time")
	check := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, mdp.Expired) || !errors.Is(err, cause) {
			t.Error(err)
		}
	}
	withEvents(t, func(t *testing.T, e *events) {
		timed, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		ctx := undated{timed}
		errs := make(chan error)
		for range 20 { // the last ones are watched for all of them (vigil)
			go func() {
				_, err := e.Call(ctx, "slow")
				errs <- err
			}()
		}
		go func() { errs <- e.Publish(ctx, "t") }()
		p := e.Go(ctx, client.Call{Service: "slow"}, nil)
		for range 21 {
			check(t, <-errs)
		}
		<-p.Done()
		check(t, p.Err)
		_, err := e.Call(ctx, "slow") // over before it begins
		check(t, err)
	})
}

func TestCancel(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		ctx, cancel := context.WithCancel(t.Context())
		done := m.do(ctx, echoCall)
		r := m.request(0)
		cancel()
		o := <-done
		o.mustFail(t, mdp.Cancelled, true)
		if !errors.Is(o.err, context.Canceled) {
			t.Errorf("%v is not context.Canceled", o.err)
		}
		if c := m.brokers[0].Expect(mdp.Cancel); c.Head.Token != r.Head.Token {
			t.Errorf("CANCEL of %x, want %x", c.Head.Token, r.Head.Token)
		}
		(<-m.do(ctx, echoCall)).mustFail(t, mdp.Cancelled, false) // already over: not sent
		p := m.Go(t.Context(), echoCall, nil)
		if again := m.brokers[0].Expect(mdp.Request); again.Head.Token == r.Head.Token || again.Head.ID != p.ID {
			t.Errorf("token %x is used again", again.Head.Token)
		}
	})
}

// A detached call goes on without its caller.
func TestDetachedIsNotCancelled(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		o := <-m.do(t.Context(), client.Call{Service: "slow", Detached: true, Timeout: time.Second})
		o.mustFail(t, mdp.Expired, true)
		r := m.request(0)
		synctest.Wait()
		m.brokers[0].None()
		var named *client.Error
		if !errors.As(o.err, &named) || named.ID != r.Head.ID {
			t.Errorf("the error does not have the request's id")
		}
		for _, want := range []error{mdp.Running, mdp.Unknown, mdp.WorkerLost, nil} {
			got := make(chan error, 1)
			go func() {
				reply, err := m.Attach(t.Context(), named.ID)
				if err == nil && (string(reply.Body[0]) != "kept" || reply.ID != named.ID) {
					t.Errorf("attach: %+v", reply)
				}
				got <- err
			}()
			a := m.brokers[0].Expect(mdp.Attach)
			if a.Head.ID != named.ID || a.Head.Token == r.Head.Token {
				t.Errorf("ATTACH with head %+v", a.Head)
			}
			if status, bad := want.(mdp.Status); bad {
				a.Fail(mdp.Errorf(status, "so it is"))
			} else {
				a.Answer(mdp.Final, []byte("kept"))
			}
			if err := <-got; !errors.Is(err, want) {
				t.Errorf("attach: %v, want %v", err, want)
			}
		}
	})
}

func TestErrorOfService(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		m.request(0).Fail(&mdp.Error{Status: mdp.AppError, Text: "no such file", MayHaveRun: true})
		o := <-done
		o.mustFail(t, mdp.AppError, true)
		if want := "call echo: app error: no such file"; o.err.Error() != want {
			t.Errorf("%q, want %q", o.err, want)
		}
	})
}

func TestBounds(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		first, second := m.do(t.Context(), echoCall), m.do(t.Context(), echoCall)
		a := m.request(0)
		b := m.brokers[0].Expect(mdp.Request)
		(<-m.do(t.Context(), echoCall)).mustFail(t, mdp.Busy, false)
		a.Answer(mdp.Final, []byte("a"))
		b.Answer(mdp.Final, []byte("a"))
		(<-first).mustAnswer(t, "a")
		(<-second).mustAnswer(t, "a")
		(<-m.do(t.Context(), client.Call{Service: ""})).mustFail(t, mdp.BadRequest, false)
		(<-m.do(t.Context(), client.Call{Service: strings.Repeat("x", 256)})).mustFail(t, mdp.BadRequest, false)
		(<-m.do(t.Context(), client.Call{Service: "big", Body: [][]byte{make([]byte, 65<<20)}})).mustFail(t, mdp.TooBig, false)
		m.brokers[0].None()
	}, func(c *client.Config) { c.MaxCalls = 2 })
}

func TestGoTellsItsChannel(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := make(chan *client.Pending, 1)
		ctx, cancel := context.WithCancel(t.Context())
		p := m.Go(ctx, echoCall, done)
		m.request(0)
		cancel()
		if got := <-done; got != p || !errors.Is(p.Err, mdp.Cancelled) {
			t.Errorf("%+v, %v", got, p.Err)
		}
		m.brokers[0].Expect(mdp.Cancel)
		p, q := m.Go(t.Context(), echoCall, done), m.Go(t.Context(), echoCall, done)
		m.brokers[0].Expect(mdp.Request).Answer(mdp.Final)
		m.brokers[0].Expect(mdp.Request).Answer(mdp.Final)
		synctest.Wait()
		if got := <-done; got != p || p.Err != nil || q.Err != nil || m.Counters().Unheard != 1 {
			t.Errorf("%+v, %v, %v, %+v", got, p.Err, q.Err, m.Counters())
		}
		r := m.Go(t.Context(), client.Call{}, nil)
		if <-r.Done(); !errors.Is(r.Err, mdp.BadRequest) {
			t.Errorf("%v", r.Err)
		}
	})
}

func TestStrangeMessagesAreCounted(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), echoCall)
		r := m.request(0)
		r.Session.Send(mdp.Command{Kind: mdp.Credit})
		other := *r
		other.Head.Token ^= 1 << 40
		other.Answer(mdp.Final, []byte("of another generation"))
		other.Answer(mdp.Partial, []byte("of another generation"))
		other.Head.Token = 99
		other.Answer(mdp.Final, []byte("of a slot that is not there"))
		r.Answer(mdp.Final, []byte("right"))
		(<-done).mustAnswer(t, "right")
		if n := m.Counters(); n.Unknown != 1 || n.Late != 3 {
			t.Errorf("counters %+v", n)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, cfg := range []client.Config{
		{},
		{Brokers: []string{"127.0.0.1:5555"}},
		{Brokers: []string{"tcp://a:1", "tcp://a:1"}},
		{Brokers: []string{"tcp://a:1"}, Timeout: -1},
		{Brokers: []string{"tcp://a:1"}, MaxCalls: -1},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
