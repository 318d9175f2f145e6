package mdtest_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func upper(_ context.Context, r *worker.Request) ([][]byte, error) {
	return [][]byte{bytes.ToUpper(r.Bytes())}, nil
}

func TestBrokerWorkerClient(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t)
	mdtest.StartWorker(t, b, "upper", upper)
	c := mdtest.Client(t, b)
	answer, err := c.Call(t.Context(), "upper", []byte("hello"))
	if err != nil || len(answer) != 1 || string(answer[0]) != "HELLO" {
		t.Fatalf("call: %q, %v", answer, err)
	}
}

// Calls go on while a broker, and then a worker, leaves: nothing is lost.
func TestCallsOutliveABrokerAndAWorker(t *testing.T) {
	t.Parallel()
	a, b := mdtest.StartBroker(t), mdtest.StartBroker(t)
	both := func(c *worker.Config) { c.Brokers, c.Concurrency = []string{a.Endpoint, b.Endpoint}, 8 }
	first := mdtest.StartWorker(t, a, "upper", upper, both)
	second := mdtest.StartWorker(t, b, "upper", upper, both)
	c := mdtest.Client(t, a, func(c *client.Config) { c.Brokers = append(c.Brokers, b.Endpoint) })

	const callers = 8
	stop, errs := make(chan struct{}), make(chan error, callers)
	var calls atomic.Int64
	progressed := make(chan struct{}, 1<<20)
	for range callers {
		go func() {
			for {
				select {
				case <-stop:
					errs <- nil
					return
				default:
				}
				answer, err := c.Call(t.Context(), "upper", []byte("x"))
				if err != nil || string(answer[0]) != "X" {
					errs <- fmt.Errorf("call: %q, %w", answer, err)
					return
				}
				calls.Add(1)
				progressed <- struct{}{}
			}
		}()
	}
	some := func() {
		t.Helper()
		for range 500 {
			select {
			case <-progressed:
			case err := <-errs:
				t.Fatal(err)
			case <-time.After(30 * time.Second):
				t.Fatalf("calls hang after %d", calls.Load())
			}
		}
	}
	some()
	a.Stop()
	some()
	first.Stop()
	some()
	close(stop)
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := first.Counters().Answered + second.Counters().Answered; n < uint64(calls.Load()) {
		t.Errorf("%d answers for %d calls", n, calls.Load())
	}
}
