// Package faults provokes faults and looks at what comes of them: workers, clients
// and brokers are real processes that are really killed and stopped, links run
// through a relay that stalls, discards and breaks them, and the broker's own books
// say what was lost, repeated and late. It has tests only; `make bench-faults`
// repeats the same injections and prints how long recovery takes.
//
// The one invariant: outcomes and counters are asserted, and of times only that none is
// ten times what is promised, beyond what this process itself had to wait for its turn
// (promise_test.go).
//
// Start with worker_test.go; the injections themselves are in package rig, what the
// processes do is in package actor.
package faults
