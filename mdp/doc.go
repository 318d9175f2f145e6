// Package mdp turns frames into typed commands and back, for every dialect the
// mesh speaks: MDP/0.1 (RFC 7), MDP/0.2 (RFC 18) with its known deviations, and
// the native protocol (docs/PROTOCOL.md). It has no I/O, no clock and no
// goroutine, and its hot path does not allocate.
//
// The one invariant: a Command never owns bytes. What Decode returns are views
// into the frames it was given, and what Append returns are views into its
// arguments; whoever keeps them longer than the frames must copy.
//
// Start with Command (command.go), then Decode; native.go has the layout of the
// native head, foreign.go the two RFCs.
package mdp
