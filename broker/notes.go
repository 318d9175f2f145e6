package broker

import (
	"context"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// notes are log lines of those who must not wait. A log may be slow, or stand still
// while nobody reads it: a goroutine of its own writes them.
type notes struct {
	wake  chan struct{} // capacity 1: there are lines
	mu    sync.Mutex    // taken last of all
	lines []note
	lost  int // beyond the bound
}

type note struct {
	level hclog.Level
	text  string
	args  []any
}

const maxNotes = 1_000 // not yet written

// note is for readers, the ticker, and whoever holds a mutex; others log themselves.
func (b *Broker) note(level hclog.Level, text string, args ...any) {
	n := &b.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.lines) >= maxNotes {
		n.lost++
		return
	}
	n.lines = append(n.lines, note{level, text, args})
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// keepNotes writes what is noted until ctx ends.
func (b *Broker) keepNotes(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.notes.wake:
			b.writeNotes()
		}
	}
}

// writeNotes logs what was noted since it was last called.
func (b *Broker) writeNotes() {
	n := &b.notes
	n.mu.Lock()
	lines, lost := n.lines, n.lost
	n.lines, n.lost = nil, 0
	n.mu.Unlock()
	for _, l := range lines {
		b.log.Log(l.level, l.text, l.args...)
	}
	if lost > 0 {
		b.log.Warn("log lines dropped: too many at once", "lines", lost)
	}
}
