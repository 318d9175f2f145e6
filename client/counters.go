package client

import "sync/atomic"

// Counters are totals since New.
type Counters struct {
	Calls       uint64 // begun, of all kinds
	Retries     uint64 // sent again with the same request id
	Unretried   uint64 // failed because the retry budget was spent
	Unwritten   uint64 // sent anew, as their connection ended before an octet of them was written
	Failovers   uint64 // times requests went over to another broker that was connected
	Silences    uint64 // links closed because the broker was silent
	Cancels     uint64 // CANCELs sent
	Late        uint64 // answers nobody waited for any more, dropped
	Malformed   uint64 // messages that are none of the protocol, dropped
	Unknown     uint64 // commands this revision does not know, ignored
	Unlearned   uint64 // endpoints that brokers named beyond those a client can know
	Unheard     uint64 // finished calls of Go whose channel was full
	Published   uint64 // events sent
	Unwanted    uint64 // events not sent for lack of a subscription
	Events      uint64 // events received
	EventsLost  uint64 // events dropped because a subscriber's function was too slow
	Outstanding int    // calls now
}

type counters struct {
	calls, retries, unretried, unwritten         atomic.Uint64
	failovers, silences, cancels                 atomic.Uint64
	late, malformed, unknown, unheard, unlearned atomic.Uint64
	published, unwanted, events, eventsLost      atomic.Uint64
}

// Counters returns a snapshot. It does not block on the network.
func (c *Client) Counters() Counters {
	n := &c.counters
	c.mu.Lock()
	outstanding := len(c.slots) - len(c.free)
	c.mu.Unlock()
	return Counters{
		Calls: n.calls.Load(), Retries: n.retries.Load(), Unretried: n.unretried.Load(), Unwritten: n.unwritten.Load(),
		Failovers: n.failovers.Load(), Silences: n.silences.Load(), Cancels: n.cancels.Load(), Late: n.late.Load(),
		Malformed: n.malformed.Load(), Unknown: n.unknown.Load(), Unlearned: n.unlearned.Load(), Unheard: n.unheard.Load(),
		Published: n.published.Load(), Unwanted: n.unwanted.Load(), Events: n.events.Load(),
		EventsLost: n.eventsLost.Load(), Outstanding: outstanding,
	}
}
