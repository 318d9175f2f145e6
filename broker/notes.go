package broker

import (
	"context"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
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

// Bounds of what is noted and not yet written.
const (
	maxNotes      = 1_000
	maxDebugNotes = 900 // of these: what is worse always has some room
)

// note is for readers, the ticker, and whoever holds a mutex; others log themselves.
func (b *Broker) note(level hclog.Level, text string, args ...any) {
	n := &b.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.lines) >= maxNotes || level == hclog.Debug && len(n.lines) >= maxDebugNotes {
		n.lost++
		return
	}
	n.lines = append(n.lines, note{level, text, args})
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// noteEnd notes how a request ended, where the log is to tell that much: who had it
// last, in which attempt, how long ago it entered the mesh and was last handed out.
// Whoever ends a request calls it before finish, with the service's mutex held.
func (s *service) noteEnd(r *request, status mdp.Status) {
	if !s.b.log.IsDebug() {
		return
	}
	now, ran, last := s.b.now(), int64(0), r.last
	if n := len(r.holders); n > 0 {
		last = r.holders[n-1]
	}
	if r.mayHaveRun() {
		ran = now - r.started
	}
	s.b.note(hclog.Debug, "request ended", "service", s.name, "request", r.id.String(), "status", status.String(), "attempt", last.attempt,
		"holder", last.String(), "age-us", (now-r.entered)/1e3, "ran-us", ran/1e3, "octets", r.size)
}

// noteRefusal is noteEnd of a request that was not taken in: the one just read.
func (c *conn) noteRefusal(err *mdp.Error) {
	if c.b.log.IsDebug() {
		c.b.noteRefused(string(c.cmd.Service), c.cmd.Head.ID.String(), c.z.Peer().Remote, err)
	}
}

// noteRefused notes that a request was not taken in, where the log is to tell that much.
// One made inside the process has no id yet.
func (b *Broker) noteRefused(service, id, remote string, err *mdp.Error) {
	if b.log.IsDebug() {
		b.note(hclog.Debug, "request refused", "service", service, "request", id, "status", err.Status.String(), "remote", remote, "reason", err.Text)
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
