// Package client calls services of the mesh, and publishes and receives its
// events. A Client may be used from many goroutines; all their calls share one
// connection to a broker, with a second broker kept warm where one is configured.
//
// The one invariant: every exchange that was begun ends exactly once, with the
// answer or with an error that says whether the request may have run, no later
// than its deadline. All state of exchanges and links is guarded by Client.mu.
//
// What a call promises:
//
//	call (default)  runs at least once: retried with the same id when a broker is lost
//	Once            runs at most once: never retried when it may have run
//	Detached        goes on when this client dies; Attach fetches the answer for 60 s
//	                after it came
//
// Start at Client.Do (call.go), then exchange.go for the life of a request, link.go
// for a connection, and retry.go for what is tried again.
package client
