package client

import (
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// The pauses before a request is sent again to a broker that refused it for now.
const (
	minPause = 10 * time.Millisecond
	maxPause = 2 * time.Second
)

// retryable tells whether a request that ended with e may be sent again.
//
//	status       call            once
//	NOT_TAKEN    yes             yes: it never started
//	BUSY         yes             unless it may have run
//	BROKER_LOST  yes             unless it may have run
//	PEER_LOST    yes             unless it may have run
//	WORKER_LOST  no: the broker has tried three workers
//	others       no: an answer, or a mistake that would be repeated
//
// A loss of the connection counts as BROKER_LOST that may have run. With partials
// already handed to the caller only what never started is sent again.
func retryable(e *mdp.Error, once, partials bool) bool {
	switch e.Status {
	case mdp.NotTaken:
		return true
	case mdp.Busy, mdp.BrokerLost, mdp.PeerLost:
		return !e.MayHaveRun || (!once && !partials)
	}
	return false
}

// counts tells whether the next try is a new attempt. Refusals are not: nothing ran.
func counts(e *mdp.Error) bool { return e.Status == mdp.BrokerLost || e.Status == mdp.PeerLost }

// pause is how long to wait before the next try: at least what the refusal asks for
// plus full jitter, doubling with each refusal. lot is in [0, 1). A lost broker
// or peer asks for no pause, since the next try goes elsewhere.
func pause(e *mdp.Error, refusals int, lot float64) time.Duration {
	if counts(e) && e.RetryAfter == 0 {
		return 0
	}
	jitter := min(minPause<<min(refusals, 10), maxPause)
	return e.RetryAfter + time.Duration(lot*float64(max(jitter, e.RetryAfter))) + 1
}
