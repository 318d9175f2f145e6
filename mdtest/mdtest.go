// Package mdtest starts brokers and workers inside a test, ready to use, and stops
// them when the test is over.
//
//	b := mdtest.StartBroker(t)
//	mdtest.StartWorker(t, b, "upper", handler)
//	c := mdtest.Client(t, b)
//
// The one invariant: what a function here returns is ready, and what it started has
// ended, goroutines included, before the test has. Start at StartBroker.
package mdtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

// guard is how long anything here may take before the test is given up.
const guard = 30 * time.Second

// Broker is a running broker.
type Broker struct {
	*broker.Broker
	Endpoint  string // of requests
	Publish   string // of publishers
	Subscribe string // of subscribers
	Network   zsock.Network
	stop      func()
}

// Stop ends the broker, as the end of the test does, and waits until it has.
func (b *Broker) Stop() { b.stop() }

// StartBroker starts a broker on free ports of 127.0.0.1, with events. Options may
// change its configuration, such as Listen together with Network.
func StartBroker(t testing.TB, options ...func(*broker.Config)) *Broker {
	t.Helper()
	cfg := broker.Config{
		Listen:    []string{"tcp://127.0.0.1:0"},
		Publish:   []string{"tcp://127.0.0.1:0"},
		Subscribe: []string{"tcp://127.0.0.1:0"},
		Logger:    logging.Test(t),
	}
	for _, option := range options {
		option(&cfg)
	}
	b, err := broker.New(cfg)
	if err != nil {
		t.Fatalf("make a broker: %v", err)
	}
	bound, err := b.Listen()
	if err != nil {
		t.Fatalf("start a broker: %v", err)
	}
	tb := &Broker{Broker: b, Network: cfg.Network}
	for _, at := range bound {
		switch at.Role {
		case "requests":
			tb.Endpoint = first(tb.Endpoint, at.Endpoint)
		case "publish":
			tb.Publish = first(tb.Publish, at.Endpoint)
		case "subscribe":
			tb.Subscribe = first(tb.Subscribe, at.Endpoint)
		}
	}
	tb.stop = run(t, "broker", b.Run)
	return tb
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Worker is a running worker.
type Worker struct {
	*worker.Worker
	stop func()
}

// Stop ends the worker, as the end of the test does, and waits until it has.
func (w *Worker) Stop() { w.stop() }

// StartWorker starts a worker at b and waits until b has welcomed it. Options may
// change its configuration.
func StartWorker(t testing.TB, b *Broker, service string, handler worker.Handler, options ...func(*worker.Config)) *Worker {
	t.Helper()
	cfg := worker.Config{
		Brokers: []string{b.Endpoint}, Service: service, Handler: handler,
		Logger: logging.Test(t), Network: b.Network,
	}
	for _, option := range options {
		option(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatalf("make a worker: %v", err)
	}
	tw := &Worker{Worker: w, stop: run(t, "worker "+service, w.Run)}
	timeout := time.NewTimer(guard)
	defer timeout.Stop()
	select {
	case <-w.Ready():
	case <-timeout.C:
		t.Fatalf("worker %s was not welcomed within %v", service, guard)
	}
	return tw
}

// Client returns a client of b, which is closed when the test is over. Options may
// change its configuration.
func Client(t testing.TB, b *Broker, options ...func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{Brokers: []string{b.Endpoint}, Logger: logging.Test(t), Network: b.Network}
	for _, option := range options {
		option(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// run runs f until the test is over or the returned function is called.
func run(t testing.TB, name string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}
