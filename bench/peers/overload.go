package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/report"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/worker"
)

// shapeFlood asks for more than a service may hold: 64,000 requests of 4 KiB and 512
// octets each, where 256 MiB is the bound.
var shapeFlood = shape{Name: "flood", Connections: 64, Inflight: 1000, Sessions: 1, Concurrency: 1, Size: 4 << 10}

const (
	serviceBound = 256 // MiB, the broker's default
	floodFactor  = 4   // durations of a measurement
	floodTimeout = 10 * time.Second
	slowWork     = 20 * time.Millisecond
)

// slow is the role of a worker that cannot keep up.
func slow(ctx context.Context, endpoint string, ready func()) error {
	w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: service, DrainTimeout: -1,
		Handler: func(ctx context.Context, r *worker.Request) ([][]byte, error) {
			select {
			case <-time.After(slowWork):
			case <-ctx.Done():
			}
			return r.Body, ctx.Err()
		}})
	if err != nil {
		return err
	}
	ready() // calls wait for it
	return w.Run(ctx)
}

// flood is the role of clients that ask for more than can be done. Most calls end
// too late or are refused; that is what is measured.
func flood(ctx context.Context, endpoint string, s shape, ready func()) error {
	var wg sync.WaitGroup
	b := body(s.Size)
	for range s.Connections {
		c, err := client.New(client.Config{Brokers: []string{endpoint}, Timeout: floodTimeout})
		if err != nil {
			return err
		}
		defer c.Close()
		for range s.Inflight {
			wg.Go(func() {
				for ctx.Err() == nil {
					_, _ = c.Call(ctx, service, b)
				}
			})
		}
	}
	ready()
	wg.Wait()
	return nil
}

// overload watches the broker's memory while it is asked for too much, and after.
func (b *bench) overload(ctx context.Context) error {
	length := floodFactor * b.duration
	ctx, cancel := context.WithTimeout(ctx, length+2*time.Minute)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	sys := systems["mdmesh"]
	broker, endpoint, err := b.startBroker(ctx, &g, sys)
	if err != nil {
		return err
	}
	if _, err := g.Role(ctx, "slow", sys.name, endpoint, shapeFlood.String()); err != nil {
		return err
	}
	watcher, err := client.New(client.Config{Brokers: []string{endpoint}, Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	defer watcher.Close()
	before, err := broker.Memory()
	if err != nil {
		return err
	}
	r := &report.Overload{Clients: shapeFlood.Connections, Seconds: length.Seconds(), Size: shapeFlood.Size, Bound: serviceBound, Before: float64(before.Resident) / mib}
	flooders, err := g.Role(ctx, "flood", sys.name, endpoint, shapeFlood.String())
	if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < length; time.Sleep(100 * time.Millisecond) {
		s, err := stateOf(ctx, watcher)
		if err != nil {
			return fmt.Errorf("ask the flooded broker: %w", err)
		}
		r.Queue, r.Held = max(r.Queue, s.Queue), max(r.Held, float64(s.Octets)/mib)
		r.Requests, r.Busy = s.Requests, s.Busy
	}
	flooders.Stop()
	for s := (serviceState{Queue: 1}); s.Queue > 0; time.Sleep(100 * time.Millisecond) {
		if s, err = stateOf(ctx, watcher); err != nil {
			return err
		}
	}
	b.settle()
	after, err := broker.Memory()
	r.Peak, r.After = float64(after.Peak)/mib, float64(after.Resident)/mib
	b.results.Overload = r
	fmt.Printf("overload  broker %.0f MiB before, %.0f at most, %.0f after\n", r.Before, r.Peak, r.After)
	return err
}
