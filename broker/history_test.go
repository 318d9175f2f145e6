package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// history is what happened to one request.
type history struct {
	body      string
	id        mdp.RequestID
	flags     uint8
	dialect   mdp.Dialect      // of its client
	read      bool             // the broker has read it
	given     int              // how often the broker wrote it to a worker
	refused   int              // workers that answered NOT_TAKEN
	begun     bool             // a worker has sent a part of an answer
	erred     bool             // a worker has answered APP_ERROR
	starts    map[uint16][]int // handlers started, by attempt: at which workers
	mute      int              // handlers started at foreign workers
	parts     int              // of its answer that reached its client
	outcomes  []mdp.Status     // that reached its client
	dropped   bool             // its answer was not taken by its client's connection
	cancelled bool             // by its client
	over      bool             // cancelled, or its client has gone, or cannot hear or be heard

	answered   time.Duration // when the broker accepted the answer
	answeredBy uint16        // attempt
}

func (h *history) foreign() bool { return h.dialect != mdp.Native }

// judge checks the whole history.
func (s *simulation) judge() {
	for _, h := range s.order {
		if err := h.judge(); err != nil {
			s.fail("request %s (flags %x): %v: %+v", h.body, h.flags, err, h)
		}
	}
	s.judgeForeign()
	if n := s.b.held.Load(); n != 0 {
		s.fail("%d octets are still held", n)
	}
	if err := s.b.checkTotals(); err != nil {
		s.fail("%v", err)
	}
	for _, service := range s.b.services {
		if service.table.live+service.queued()+service.wheel.n != 0 || service.bytes != 0 {
			s.fail("%d requests, %d queued, %d deadlines, %d octets are left", service.table.live, service.queued(), service.wheel.n, service.bytes)
		}
	}
}

func (h *history) judge() error {
	starts := h.mute
	for attempt, at := range h.starts {
		starts += len(at)
		if len(at) > 1 {
			return fmt.Errorf("attempt %d was started %d times", attempt, len(at))
		}
		if attempt > maxAttempts {
			return fmt.Errorf("attempt %d", attempt)
		}
	}
	switch {
	case starts > maxAttempts:
		return fmt.Errorf("%d starts", starts)
	case h.flags&mdp.FlagOnce != 0 && starts > 1:
		return fmt.Errorf("must run once, ran %d times", starts)
	case len(h.outcomes) > 1:
		return fmt.Errorf("%d outcomes", len(h.outcomes))
	case len(h.outcomes) == 0 && !h.over && !h.foreign():
		return fmt.Errorf("no outcome")
	case len(h.outcomes) == 1 && h.outcomes[0] == mdp.OK && starts == 0:
		return fmt.Errorf("answered without having run")
	case slices.Contains(h.outcomes, mdp.Cancelled):
		return fmt.Errorf("its client was told of a CANCEL that it did not send")
	case len(h.outcomes) == 1 && h.outcomes[0] == mdp.NotTaken && starts > 0:
		return fmt.Errorf("refused after it had run")
	case slices.Contains(h.outcomes, mdp.WorkerLost) && !h.mayBeGivenUp():
		return fmt.Errorf("given up after %d tries", h.given)
	case h.parts > 1 && h.flags&mdp.FlagRestartable == 0:
		return fmt.Errorf("%d parts of answers, each of another attempt", h.parts)
	}
	return nil
}

// mayBeGivenUp tells whether the broker may have tried no further: it had tried often
// enough, or the request must run once, or a part of its answer was passed on.
func (h *history) mayBeGivenUp() bool {
	collected := h.dialect == mdp.V01
	return h.given >= maxAttempts || h.refused >= maxRefusals || h.flags&mdp.FlagOnce != 0 ||
		h.begun && !collected && h.flags&mdp.FlagRestartable == 0
}

// judgeForeign checks what MDP clients were not answered, though they were there: their
// protocol has no word for an error of the broker's, but each has a reason and is counted.
func (s *simulation) judgeForeign() {
	silent, over, dropped := 0, 0, 0
	for _, c := range s.foreign {
		n := c.judge()
		silent += n
		for _, h := range c.waiting {
			switch {
			case h.dropped:
				dropped++
			case h.over:
				over++
			}
		}
	}
	c := s.b.Counters()
	if told := int(c["foreign_unanswered"]); told < silent || told > silent+over {
		s.fail("the broker counts %d unanswered requests of MDP clients, there are %d, and %d that they gave up", told, silent, over)
	}
	if dropped > int(c["answers_dropped"]) {
		s.fail("%d answers to MDP clients were not taken, %d are counted", dropped, c["answers_dropped"])
	}
}

// judge counts what an MDP client waits for in vain. Of an error that a handler answered
// it is not told what it belongs to: it may be any that ended so.
func (c *asker) judge() (silent int) {
	erred, owed := 0, 0
	for _, h := range c.waiting {
		if len(h.outcomes) > 0 {
			continue
		}
		if h.erred {
			erred++
		}
		if h.over || h.dropped {
			continue
		}
		silent++
		switch {
		case h.mayBeGivenUp(), c.s.b.draining.Load():
		case h.erred:
			owed++
		default:
			c.s.fail("request %s of an MDP client was given up: %+v", h.body, h)
		}
	}
	if c.errors < owed || c.errors > erred {
		c.s.fail("%s got %d errors, handlers answered with %d, and %d of these are the end of a request", c.instance, c.errors, erred, owed)
	}
	return max(silent-c.errors, 0)
}
