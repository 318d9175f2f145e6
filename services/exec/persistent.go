package exec

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
)

// Pauses before a place starts a child again: they double while children end before
// they have answered anything.
const (
	minPause = 20 * time.Millisecond
	maxPause = 2 * time.Second
	// patience is how long a request waits for a child when none can be kept alive.
	patience = 2 * time.Second
	// hopeless is after how many children in a row that ended without an answer a
	// request that the next one does not read is answered, and not given back: it
	// would come again and again.
	hopeless = 3
)

// Counters are totals of a service with Persistent.
type Counters struct {
	Started uint64 // children
	Ended   uint64 // children that ended unasked, or were of no use any more
	Killed  uint64 // children killed at a deadline, CANCEL or loss of the broker
	Rubbish uint64 // children that wrote what is no answer
	Late    uint64 // answers, and parts, to requests that were answered (frames of version 2)
}

type counters struct{ started, ended, killed, rubbish, late atomic.Uint64 }

// Counters returns a snapshot.
func (s *Service) Counters() Counters {
	n := &s.counters
	return Counters{Started: n.started.Load(), Ended: n.ended.Load(), Killed: n.killed.Load(), Rubbish: n.rubbish.Load(), Late: n.late.Load()}
}

// job is one request on its way through a child.
type job struct {
	ctx  context.Context
	r    *worker.Request
	done chan struct{}
	body [][]byte
	err  error
}

func (j *job) end(body [][]byte, err error) {
	j.body, j.err = body, err
	close(j.done)
}

// ask hands a request to an idle child and waits for the answer.
func (s *Service) ask(ctx context.Context, r *worker.Request) ([][]byte, error) {
	j := &job{ctx: ctx, r: r, done: make(chan struct{})}
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case s.jobs <- j:
			<-j.done
			return j.body, j.err
		case <-ctx.Done():
			return nil, mdp.Errorf(mdp.NotTaken, "not started: %v", context.Cause(ctx))
		case <-late.C:
			if why := s.broken.Load(); why != nil && s.alive.Load() == 0 {
				return nil, noChild(*why)
			}
			late.Reset(patience)
		}
	}
}

func noChild(why error) error {
	return mdp.Errorf(mdp.AppError, "no child can be kept alive: %v", why)
}

// keep keeps one place: a child at a time, until ctx ends.
func (s *Service) keep(ctx context.Context) {
	pause, barren := minPause, 0
	for ctx.Err() == nil {
		answered, err := s.live(ctx, barren)
		if ctx.Err() != nil {
			return
		}
		if answered {
			pause, barren = minPause, 0
		}
		if err != nil {
			s.counters.ended.Add(1)
			barren++
			s.broken.Store(&err)
			s.cfg.Logger.Warn("child ended, starting another one", "command", s.cfg.Command[0], "error", err, "pause", pause)
			if !wait(ctx, pause/2+rand.N(pause/2)) {
				return
			}
			pause = min(2*pause, maxPause)
		}
	}
}

// live is a child's life, after barren others that have answered nothing. It tells
// whether the child has answered anything, and why it ended, nil if it was us who
// ended it.
func (s *Service) live(ctx context.Context, barren int) (answered bool, err error) {
	c, err := s.spawn(ctx)
	if err != nil {
		return false, err
	}
	defer c.end()
	c.barren = barren
	s.counters.started.Add(1)
	s.alive.Add(1)
	defer s.alive.Add(-1)
	for {
		j, err := c.idle(ctx)
		if j == nil {
			return answered, err
		}
		switch err := c.serve(j); err {
		case nil:
			answered = true
		case errKilled:
			return answered, nil // the next one starts at once
		default:
			return answered || err == errHalfRead, err
		}
	}
}

// wait tells whether ctx lasted for d.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
