// Peers measures this broker beside others: calls per second, latency, and the CPU
// time of every process, in interleaved rounds. It prints what it finds beside what
// is to be reached, writes it to a file, and asserts nothing. See docs/BENCHMARKS.md.
//
// The one invariant: like is compared with like. Every system gets the same shapes:
// as many connections, worker connections, requests at once and octets, and calls
// that block.
//
// Start at grid (shape.go), then system (system.go) and bench.round (bench.go).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 2 && os.Args[1] == "role" {
		err = runRole(ctx, os.Args[2:])
	} else {
		err = runAll(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(1)
	}
}
