// Package zsock is the only door to ZeroMQ: connections that speak ZMTP 3 over
// any byte stream, and a codec that moves whole messages without re-encoding them.
//
// The handshake types come from go-zeromq/zmq4, behind a guard that shows it only
// checked bytes; its sockets are not used. One goroutine per connection reads,
// parses every message in its buffer and runs the [Handler]; where handlers never
// wait (Config.Shared), one goroutine does so for many connections. What handlers
// send is collected per peer and written, without blocking, when a [Batch] is flushed.
//
// The one invariant: a message is one contiguous run of wire octets from the read
// to the write. [Body] is such a run; forwarding it never decodes or re-encodes it.
//
// The second, about strangers: nothing a peer sends makes this process allocate by
// announcement, panic, wait for it, or lose more than the connection to that peer.
//
// Start reading at [Handler] and [Config], then conn.go (a connection's life),
// read.go (the way in; large.go for large messages, budget.go for all of them together),
// poll_linux.go (the way in, shared; with poll_sock, poll_read and poll_write),
// send.go and flush.go (the way out), listen.go (who may come
// in), guard.go and handshake.go (what strangers may say).
package zsock
