package hostmetrics

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// sample is everything measured at one instant.
type sample struct {
	at     time.Time
	points []point
}

// backlog keeps the newest samples while ingest is away. The sampler pushes and
// never waits; the sender pops.
type backlog struct {
	most int
	more chan struct{} // capacity 1: a sample was pushed

	mu sync.Mutex
	// guards the following
	samples []sample
	dropped uint64
}

func newBacklog(most int) *backlog {
	return &backlog{most: most, more: make(chan struct{}, 1)}
}

// push adds s and drops the oldest sample when there are too many.
func (b *backlog) push(s sample) {
	b.mu.Lock()
	if b.samples = append(b.samples, s); len(b.samples) > b.most {
		b.samples[0] = sample{}
		b.samples = b.samples[1:]
		b.dropped++
	}
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// pop takes the oldest sample; it blocks until there is one, and returns false
// when ctx ends.
func (b *backlog) pop(ctx context.Context) (sample, bool) {
	for {
		b.mu.Lock()
		if len(b.samples) > 0 {
			s := b.samples[0]
			b.samples[0] = sample{}
			b.samples = b.samples[1:]
			b.mu.Unlock()
			return s, true
		}
		b.mu.Unlock()
		select {
		case <-b.more:
		case <-ctx.Done():
			return sample{}, false
		}
	}
}

// state returns how many samples wait and how many were dropped.
func (b *backlog) state() (waiting int, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.samples), b.dropped
}

// losses says once that samples are dropped, and how many once there are none left
// of those that waited. One goroutine uses it.
type losses struct {
	log    hclog.Logger
	before uint64 // dropped in all until the outage began
	now    bool
}

// note is told what waits and what was dropped in all.
func (l *losses) note(waiting int, dropped uint64) {
	switch {
	case !l.now && dropped > l.before:
		l.now = true
		l.log.Warn("ingest takes no records, the oldest samples are dropped", "kept", waiting)
	case l.now && waiting <= 1: // the newest may be on its way
		l.now = false
		l.log.Info("ingest takes records again", "samples-lost", dropped-l.before)
		l.before = dropped
	}
}
