// Package sleep offers and calls the sleeping work of package work through the
// product's own libraries. Start at Work and Submit.
package sleep

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/bench/work"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/worker"
)

// Service is the name of the work.
const Service = "sleep"

// patience is how long a call may take. Under overload, queues grow until the plan
// is over.
const patience = 10 * time.Minute

// Work offers the service with n sessions of concurrency 1 until ctx ends, and calls
// ready when the broker lists them.
func Work(ctx context.Context, endpoint string, n int, ready func()) error {
	w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: Service, Instances: n, DrainTimeout: -1,
		Handler: func(_ context.Context, r *worker.Request) ([][]byte, error) {
			answer, err := work.Serve(r.Bytes())
			return [][]byte{answer}, err
		}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		if await(ctx, endpoint, n) == nil {
			ready()
		}
	})
	return w.Run(ctx)
}

func await(ctx context.Context, endpoint string, n int) error {
	c, err := client.New(client.Config{Brokers: []string{endpoint}})
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		if got, err := sessions(ctx, c); err == nil && got == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func sessions(ctx context.Context, c *client.Client) (int, error) {
	reply, err := c.Call(ctx, "mmi.workers")
	if err != nil {
		return 0, err
	}
	var all []json.RawMessage
	if err := json.Unmarshal(reply[len(reply)-1], &all); err != nil {
		return 0, fmt.Errorf("read mmi.workers: %w", err)
	}
	return len(all), nil
}

// Submit runs plan p: calls of entry e go to endpoints[e], all on one connection to it.
func Submit(ctx context.Context, endpoints []string, p work.Plan) ([]work.Record, error) {
	clients := make([]*client.Client, len(endpoints))
	for i, endpoint := range endpoints {
		var err error
		if clients[i], err = client.New(client.Config{Brokers: []string{endpoint}, Timeout: patience}); err != nil {
			return nil, err
		}
		defer clients[i].Close()
		if _, err := clients[i].Call(ctx, "mmi.service", []byte(Service)); err != nil { // it is connected
			return nil, err
		}
	}
	r := work.NewRecords(p)
	done := make(chan *client.Pending, p.Calls) // never full
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		for {
			select {
			case pending := <-done:
				r.Answered(answer(pending))
			case <-stop:
				return
			}
		}
	})
	return r.Run(ctx, func(c work.Call, question []byte) error {
		clients[c.Entry].Go(ctx, client.Call{Service: Service, Body: [][]byte{question}}, done)
		return nil
	})
}

func answer(p *client.Pending) ([]byte, error) {
	if p.Err != nil {
		return nil, p.Err
	}
	return slices.Concat(p.Reply.Body...), nil
}
