// Package memsock is a network in memory for tests: byte streams between named
// hosts, bounded like sockets, with deadlines, and with faults that can be put on
// live connections and taken off again.
//
// A [Net] satisfies zsock.Network, and so does every [Host] of it. Endpoints are
// inproc://NAME and tcp://NAME:PORT (port 0 is filled in); NAME is the host. All
// waiting is on condition variables, channels and timers, so a Net that is made
// inside a testing/synctest bubble works there, with the bubble's clock.
//
// The one invariant: octets that are not subject to a fault arrive once, in order.
//
// Start reading at [Net] and [Fault]; stream.go is one direction of a connection.
package memsock
