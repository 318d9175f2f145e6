package transform

import (
	"sync/atomic"

	"github.com/mdmesh/mdmesh/store"
)

// Stats are counts since the start. Records of a request that failed whole are in none.
type Stats struct {
	Requests    uint64
	Unavailable uint64 // requests refused because the store was unavailable

	Inserted, Duplicate, Revised, Conflict uint64 // records, by outcome
	Refused                                uint64 // records out of bounds or unreadable

	HintsSent, HintsFailed, HintsSkipped uint64 // skipped: not tried shortly after a failure
}

type counters struct {
	requests, unavailable, refused       atomic.Uint64
	byOutcome                            [store.Conflict + 1]atomic.Uint64
	hintsSent, hintsFailed, hintsSkipped atomic.Uint64
}

func (c *counters) outcomes(outcomes []store.Outcome) {
	for _, o := range outcomes {
		if int(o) < len(c.byOutcome) {
			c.byOutcome[o].Add(1)
		}
	}
}

// Stats returns the counts; they are read one by one, not at one instant.
func (s *Service) Stats() Stats {
	c := &s.counts
	return Stats{
		Requests:     c.requests.Load(),
		Unavailable:  c.unavailable.Load(),
		Inserted:     c.byOutcome[store.Inserted].Load(),
		Duplicate:    c.byOutcome[store.Duplicate].Load(),
		Revised:      c.byOutcome[store.Revised].Load(),
		Conflict:     c.byOutcome[store.Conflict].Load(),
		Refused:      c.refused.Load(),
		HintsSent:    c.hintsSent.Load(),
		HintsFailed:  c.hintsFailed.Load(),
		HintsSkipped: c.hintsSkipped.Load(),
	}
}
