package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestDrain(t *testing.T) {
	var release chan struct{} // made in the bubble
	inBubble(t, func(context.Context, *worker.Request) ([][]byte, error) {
		<-release
		return [][]byte{[]byte("finished")}, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		cmd := s.request()
		session.Send(cmd)
		synctest.Wait()
		s.stop()
		s.broker.Expect(mdp.Drain)
		late := s.request()
		session.Send(late)
		s.final(late, mdp.NotTaken)
		time.Sleep(9 * time.Second)
		close(release)
		if m := s.final(cmd, mdp.OK); string(m.Body[0]) != "finished" {
			t.Errorf("answer %q", m.Body)
		}
		s.broker.Expect(mdp.Bye)
		s.end(nil)
	}, func(c *worker.Config) { c.Concurrency, release = 2, make(chan struct{}) })
}

// A broker that says nothing to DRAIN is left all the same.
func TestDrainIsNotConfirmed(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		s.hello()
		<-s.Ready()
		s.stop()
		s.broker.Expect(mdp.Drain)
		began := time.Now()
		s.broker.Expect(mdp.Bye)
		if d := time.Since(began); d != time.Second {
			t.Errorf("left after %v, want 1 s", d)
		}
		s.end(nil)
	})
}

// What is not done when the drain is over stays unanswered: the broker gives it to
// another worker.
func TestDrainTimesOut(t *testing.T) {
	var causes chan error // made in the bubble
	inBubble(t, func(ctx context.Context, _ *worker.Request) ([][]byte, error) {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		session.Send(s.request())
		synctest.Wait()
		s.stop()
		s.broker.Expect(mdp.Drain)
		began := time.Now()
		s.broker.Expect(mdp.Bye)
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("left after %v, want 3 s", d)
		}
		if cause := <-causes; !errors.Is(cause, worker.ErrDrained) {
			t.Errorf("cause %v", cause)
		}
		s.end(nil)
		if n := s.Counters(); n.Abandoned != 1 {
			t.Errorf("counters %+v", n)
		}
	}, func(c *worker.Config) { c.DrainTimeout, causes = 3*time.Second, make(chan error, 1) })
}

func TestStuckHandlerIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &stage{t: t, net: memsock.New(), ended: make(chan error, 1)}
		s.start(welcome)
		w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: "echo", Network: s.net, DrainTimeout: -1,
			Handler: func(context.Context, *worker.Request) ([][]byte, error) { <-release; return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { s.ended <- w.Run(ctx) }()
		s.hello().Send(s.request())
		synctest.Wait()
		stop()
		if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "1 handlers") {
			t.Errorf("run: %v", err)
		}
		close(release)
		s.broker.Stop()
	})
}

func TestDrainingBroker(t *testing.T) {
	var release chan struct{} // made in the bubble
	inBubble(t, func(context.Context, *worker.Request) ([][]byte, error) {
		<-release
		return nil, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		cmd := s.request()
		session.Send(cmd)
		session.Send(mdp.Command{Kind: mdp.Drain})
		time.Sleep(2 * time.Second)
		s.broker.None()
		close(release)
		s.final(cmd, mdp.OK)
		s.broker.Expect(mdp.Bye)
		<-session.Closed
		s.hello() // the script's broker stays, so the worker comes back
	}, func(*worker.Config) { release = make(chan struct{}) })
}

// An idle worker does not leave before it knows that nothing is on its way to it.
func TestDrainIsConfirmed(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		s.stop()
		s.broker.Expect(mdp.Drain)
		synctest.Wait()
		s.broker.None()
		crossed := s.request(func(c *mdp.Command) { c.Head.Flags = mdp.FlagOnce })
		session.SendAll(crossed, mdp.Command{Kind: mdp.Drain})
		began := time.Now()
		s.final(crossed, mdp.NotTaken)
		s.broker.Expect(mdp.Bye)
		if d := time.Since(began); d != 0 {
			t.Errorf("left %v after the broker's DRAIN", d)
		}
		s.end(nil)
	})
}

// What was sent ahead of DRAIN is taken, also if both are read at once.
func TestDrainBehindRequest(t *testing.T) {
	inBubble(t, echo, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		synctest.Wait()
		cmd := s.request()
		session.SendAll(cmd, mdp.Command{Kind: mdp.Drain})
		s.final(cmd, mdp.OK)
		s.broker.Expect(mdp.Bye)
		s.hello()
	})
}

func TestDrainDoesNotWaitForAStalledBroker(t *testing.T) {
	inBubble(t, func(context.Context, *worker.Request) ([][]byte, error) {
		return [][]byte{make([]byte, 4<<20)}, nil
	}, func(t *testing.T, s *stage) {
		session := s.hello()
		<-s.Ready()
		s.net.Fault(memsock.Anonymous, "broker", memsock.Fault{Stall: true})
		session.Send(s.request())
		synctest.Wait()
		began := time.Now()
		s.end(nil)
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("ended after %v", d)
		}
		s.net.Heal(memsock.Anonymous, "broker")
	})
}

// Of two brokers one leaves: the worker serves the other, and comes back to the first.
func TestOneOfTwoBrokersDrains(t *testing.T) {
	const other = "tcp://other:5555"
	inBubble(t, echo, func(t *testing.T, s *stage) {
		leaving := scripted.Start(t, scripted.Config{Endpoint: other, Network: s.net, Welcome: welcome})
		session, gone := s.hello(), leaving.Expect(mdp.Hello).Session
		gone.Send(mdp.Command{Kind: mdp.Drain})
		leaving.Expect(mdp.Bye)
		<-gone.Closed
		leaving.Stop()
		for range 3 {
			time.Sleep(5 * time.Second)
			cmd := s.request()
			session.Send(cmd)
			s.final(cmd, mdp.OK)
		}
		back := scripted.Start(t, scripted.Config{Endpoint: other, Network: s.net, Welcome: welcome})
		began := time.Now()
		back.Expect(mdp.Hello)
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("came back after %v, want 2 s at most", d)
		}
		back.Stop()
	}, func(c *worker.Config) { c.Brokers = append(c.Brokers, other) })
}
