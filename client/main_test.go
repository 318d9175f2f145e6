package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// welcome is what the scripted brokers of these tests say.
var welcome = &mdp.WelcomeMap{Revision: mdp.Revision, HeartbeatMs: 1000, Name: "scripted"}

// mesh is a client with scripted brokers in a network in memory.
type mesh struct {
	*client.Client
	t       *testing.T
	net     *memsock.Net
	brokers []*scripted.Broker
}

// inBubble runs f in a synctest bubble with a client of n brokers.
func inBubble(t *testing.T, n int, f func(t *testing.T, m *mesh), options ...func(*client.Config)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{t: t, net: memsock.New()}
		var endpoints []string
		for i := range n {
			endpoints = append(endpoints, endpoint(i))
			m.start(i)
		}
		cfg := client.Config{Brokers: endpoints, Network: m.net, Logger: logging.Test(t)}
		for _, option := range options {
			option(&cfg)
		}
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.Client = c
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		f(t, m)
	})
}

func endpoint(i int) string { return "tcp://broker" + string(rune('a'+i)) + ":5555" }

// start starts broker i, again if it was stopped.
func (m *mesh) start(i int) *scripted.Broker { return m.startWith(i, welcome) }

func (m *mesh) startWith(i int, w *mdp.WelcomeMap) *scripted.Broker {
	b := scripted.Start(m.t, scripted.Config{Endpoint: endpoint(i), Network: m.net, Welcome: w})
	if i == len(m.brokers) {
		m.brokers = append(m.brokers, b)
	} else {
		m.brokers[i] = b
	}
	return b
}

// outcome is what a call has come to.
type outcome struct {
	reply *client.Reply
	err   error
	took  time.Duration
}

// do makes a call in the background.
func (m *mesh) do(ctx context.Context, call client.Call) <-chan outcome {
	done := make(chan outcome, 1)
	began := time.Now()
	go func() {
		reply, err := m.Do(ctx, call)
		done <- outcome{reply, err, time.Since(began)}
	}()
	return done
}

// request waits for the HELLO of a new connection to broker i and a request behind.
func (m *mesh) request(i int) *scripted.Message {
	m.t.Helper()
	m.brokers[i].Expect(mdp.Hello)
	return m.brokers[i].Expect(mdp.Request)
}

// mustFail checks that o is an error of this status, and what it says about running.
func (o outcome) mustFail(t *testing.T, status mdp.Status, mayHaveRun bool) {
	t.Helper()
	var e *mdp.Error
	if !errors.As(o.err, &e) || e.Status != status || !errors.Is(o.err, status) {
		t.Fatalf("call: %v, want %v", o.err, status)
	}
	if e.MayHaveRun != mayHaveRun {
		t.Errorf("call: %v: may have run is %t", o.err, e.MayHaveRun)
	}
	var named *client.Error
	if !errors.As(o.err, &named) || named.Op == "" {
		t.Errorf("call: %v: does not name its operation", o.err)
	}
}

func (o outcome) mustAnswer(t *testing.T, want string) {
	t.Helper()
	if o.err != nil || len(o.reply.Body) != 1 || string(o.reply.Body[0]) != want {
		t.Fatalf("call: %+v, %v, want %q", o.reply, o.err, want)
	}
}
