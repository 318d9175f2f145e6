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

import "github.com/mdmesh/mdmesh/bench/procs"

func main() { procs.Main("bench-peers", runAll, runRole) }
