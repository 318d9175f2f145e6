// Package client calls services of the mesh, and publishes and receives its
// events. A Client may be used from many goroutines; all their calls share one
// connection to a broker, with a second broker kept warm where one is configured or
// named by the first.
//
// The one invariant: every exchange that was begun ends exactly once, with the
// answer or with an error that says whether the request may have run, no later
// than its deadline. All state of exchanges and links is guarded by Client.mu.
//
// What a call promises:
//
//	call (default)  runs at least once: retried with the same id when a broker is lost
//	Once            runs at most once: never retried when it may have run, which it
//	                has not if its connection ended before an octet of it was written
//	Detached        goes on when this client dies; Attach fetches the answer for 60 s
//	                after it came
//
// What is tried again costs a budget (1 in 10 of recent calls, at least 10 a second),
// so that a mesh that is failing is not asked twice for everything. What a broker
// did not take, or took along when it was lost, goes to the other one for nothing, and
// what was never written to it is no try at all.
//
// Start at Client.Do (call.go), then exchange.go and outcome.go for the life of a
// request, link.go for a connection, brokers.go for which there are, retry.go and
// budget.go for what is tried again, alarm.go for what its deadline ends, and vigil.go for
// what its context does.
package client
