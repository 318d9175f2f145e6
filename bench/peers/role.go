package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mdmesh/mdmesh/bench/load"
	"github.com/mdmesh/mdmesh/bench/procs"
)

// runRole is one process of a benchmark. It ends with its standard input.
//
//	broker SYSTEM                            prints "listening ENDPOINT"
//	worker SYSTEM ENDPOINT SHAPE             prints "ready"
//	client SYSTEM ENDPOINT SHAPE DURATION    prints "ready", and at each line "go"
//	                                         measures and prints "result JSON"
//	idle SYSTEM ENDPOINT N                   N connections that do nothing; prints "ready"
//	flood SYSTEM ENDPOINT SHAPE              see flood.go
func runRole(ctx context.Context, args []string) error {
	ctx, lines := procs.Told(ctx)
	for len(args) < 5 {
		args = append(args, "")
	}
	role, name, endpoint := args[0], args[1], args[2]
	if role == "broker" {
		return serve(ctx, name)
	}
	s := systems[name]
	if s == nil {
		return fmt.Errorf("no system %q", name)
	}
	ready := func() { fmt.Println("ready") }
	if role == "idle" {
		return idle(ctx, name, endpoint, args[3], ready)
	}
	var sh shape
	if err := json.Unmarshal([]byte(args[3]), &sh); err != nil {
		return fmt.Errorf("shape %q: %w", args[3], err)
	}
	switch role {
	case "worker":
		return s.work(ctx, endpoint, sh, ready)
	case "client":
		d, err := time.ParseDuration(args[4])
		if err != nil {
			return err
		}
		return measure(ctx, s, endpoint, sh, d, lines, ready)
	case "flood":
		return flood(ctx, endpoint, sh, ready)
	case "slow":
		return slow(ctx, endpoint, ready)
	}
	return fmt.Errorf("no role %q", role)
}

// serve runs one of the brokers that are not programs of their own.
func serve(ctx context.Context, name string) error {
	switch name {
	case "nats":
		return serveNATS(ctx)
	case "relay":
		return serveRelay(ctx)
	}
	return fmt.Errorf("no broker %q in this program", name)
}

// measure is the client's process.
func measure(ctx context.Context, s *system, endpoint string, sh shape, d time.Duration, lines <-chan string, ready func()) error {
	call, err := s.dial(ctx, endpoint, sh)
	if err != nil {
		return err
	}
	if warm := load.Run(sh.lanes(), min(d/2, 300*time.Millisecond), call); warm.Errors > 0 {
		return fmt.Errorf("%d of the first calls failed: %s", warm.Errors, warm.Error)
	}
	ready()
	for {
		select {
		case <-lines:
		case <-ctx.Done():
			return nil
		}
		text, err := json.Marshal(load.Run(sh.lanes(), d, call))
		if err != nil {
			return err
		}
		fmt.Printf("result %s\n", text)
	}
}
