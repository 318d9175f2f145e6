// Package worker offers a service to the mesh: a Worker keeps a session with each
// of its brokers and runs a Handler for every request they dispatch to it.
//
// The one invariant: each request taken from a broker is answered with exactly one
// final on the connection it came by, or dropped and counted because that
// connection is gone or the drain timed out. All state of a session is guarded by
// session.mu.
//
// Handlers may block: up to Concurrency of them run at once. Where they have all been
// quick lately, some 20 us or less, one goroutine runs those that arrive together one
// after another, and with 10 us or less the one that reads the connection does. One
// that blocks after many quick ones delays those behind it, and what else the reader
// reads, by a millisecond at most, or by four where none has for a quarter of a second;
// then others are started, and it is some time until handlers count as quick again.
//
// Start at New and Run (worker.go), then session.go for a session's life and drain.go
// for its end, inbound.go for what a broker says, crew.go, errand.go and pace.go for who
// runs the handlers, request.go and serve.go for a request's life.
package worker
