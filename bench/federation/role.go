package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/mdmesh/mdmesh/bench/load"
	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/sleep"
	"github.com/mdmesh/mdmesh/bench/work"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/worker"
)

// runRole is one process of the benchmark. All print "ready".
//
//	sleepers ENDPOINT N
//	echo ENDPOINT                   workers of shape iii
//	caller PLAN FILE ENDPOINT...    runs the plan and writes the records, then is ready
//	callers CALLERS ENDPOINT        prints "result JSON" in the end
func runRole(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("no role %q", args)
	}
	role, first, rest := args[0], args[1], args[2:]
	ctx, _ = procs.Told(ctx)
	ready := func() { fmt.Println("ready") }
	switch {
	case role == "sleepers" && len(rest) == 1:
		n, err := strconv.Atoi(rest[0])
		if err != nil {
			return err
		}
		return sleep.Work(ctx, first, n, ready)
	case role == "echo":
		return echo(ctx, first, ready)
	case role == "caller" && len(rest) > 1:
		return call(ctx, first, rest[0], rest[1:], ready)
	case role == "callers" && len(rest) == 1:
		ready()
		return callAll(ctx, first, rest[0])
	}
	return fmt.Errorf("no role %s with %d arguments", role, 1+len(rest))
}

func echo(ctx context.Context, endpoint string, ready func()) error {
	w, err := worker.New(worker.Config{Brokers: []string{endpoint}, Service: "echo", Concurrency: 32, Instances: 8, DrainTimeout: -1,
		Handler: func(_ context.Context, r *worker.Request) ([][]byte, error) { return r.Body, nil }})
	if err != nil {
		return err
	}
	ready() // calls wait for it
	return w.Run(ctx)
}

func call(ctx context.Context, plan, file string, endpoints []string, ready func()) error {
	err := work.Perform(plan, file, func(p work.Plan) ([]work.Record, error) { return sleep.Submit(ctx, endpoints, p) })
	if err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return nil
}

func callAll(ctx context.Context, text, endpoint string) error {
	var c callers
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return fmt.Errorf("callers %q: %w", text, err)
	}
	name, body := sleep.Service, work.Question(0, c.Service)
	if c.Echo {
		name, body = "echo", make([]byte, 64)
	}
	clients := make([]*client.Client, c.Connections)
	for i := range clients {
		var err error
		if clients[i], err = client.New(client.Config{Brokers: []string{endpoint}}); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	one := func(lane int) error {
		_, err := clients[lane%len(clients)].Call(ctx, name, body)
		return err
	}
	var r load.Result
	for range c.Calls {
		if err := one(0); err != nil {
			return err
		}
	}
	if c.Calls == 0 {
		r = load.Run(c.Connections*c.Inflight, c.Spell, one)
	}
	result, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Printf("result %s\n", result)
	<-ctx.Done()
	return nil
}
