package broker

import (
	"sync"

	"github.com/hashicorp/go-hclog"
)

// notes are log lines from under a mutex. A log may be slow, and nothing waits
// while it holds a mutex: the ticker writes them.
type notes struct {
	mu    sync.Mutex // taken last of all
	lines []note
	lost  int // beyond the bound
}

type note struct {
	level hclog.Level
	text  string
	args  []any
}

const maxNotes = 1_000 // between two ticks

// note is for whoever holds a mutex; others log themselves.
func (b *Broker) note(level hclog.Level, text string, args ...any) {
	n := &b.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.lines) >= maxNotes {
		n.lost++
		return
	}
	n.lines = append(n.lines, note{level, text, args})
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
