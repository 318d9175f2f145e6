package broker

import (
	"context"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// watch is what the ticker remembers of one connection. The reader only counts
// messages; turning counts into times here keeps clocks off the hot path.
type watch struct {
	received, sent uint32
	heard, said    int64 // broker clock of the last change seen
	idle           bool  // nothing outstanding at the last look
}

// tick runs deadlines every wheelTick and heartbeats every quarter of the
// heartbeat, until ctx ends. It is the broker's only clock.
func (b *Broker) tick(ctx context.Context) error {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	beatEvery := int64(b.cfg.Heartbeat / 4)
	last, nextBeat, nextSweep := b.now(), int64(0), int64(0)
	graceUntil := int64(0)
	var due []*request
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := b.now()
		if now-last > int64(max(b.cfg.Heartbeat/2, 5*wheelTick)) {
			// This process was paused: what peers sent meanwhile is unread. Let the
			// readers drain it before anybody is called silent.
			b.count.pauses.Add(1)
			b.log.Warn("the broker was paused", "gap-ms", (now-last)/1e6)
			graceUntil = now + int64(b.cfg.Heartbeat)
		}
		last = now
		due = b.expireDue(now, due[:0])
		if now >= nextBeat {
			nextBeat = now + beatEvery
			b.beat(now, now < graceUntil)
		}
		if now >= nextSweep {
			nextSweep = now + int64(time.Second)
			b.sweep(now)
		}
		b.checkDrained()
	}
}

// expireDue answers the requests whose deadline has passed.
func (b *Broker) expireDue(now int64, due []*request) []*request {
	var batch zsock.Batch
	for _, s := range b.allServices() {
		s.mu.Lock()
		due = s.wheel.due(now, due[:0])
		for _, r := range due {
			s.expire(&batch, r)
		}
		s.mu.Unlock()
	}
	batch.Flush()
	return due
}

// sweep does once a second what is not urgent: foreign requests that nobody
// offers to do, kept answers, services nobody uses.
func (b *Broker) sweep(now int64) {
	b.detached.expire(now)
	var batch zsock.Batch
	for _, s := range b.allServices() {
		s.mu.Lock()
		s.sweep(&batch, now)
		unused := s.unusedLocked()
		s.mu.Unlock()
		if unused {
			b.forgetIfUnused(s)
		}
	}
	batch.Flush()
}

func (s *service) sweep(batch *zsock.Batch, now int64) {
	ttl := int64(s.b.cfg.ForeignTTL)
	if s.offered() {
		return
	}
	for r := s.queue.first; r != nil; {
		next := r.queue.next
		if r.deadline == 0 && r.from.dialect != mdp.Native && now-r.entered > ttl {
			s.stats.Expired++
			s.fail(batch, r, mdp.Errorf(mdp.NoWorker, "nobody offers %q", s.name))
		}
		r = next
	}
}

// beat looks at every connection: says something where it was silent, ends
// sessions of peers that were. In a grace after a pause nobody is ended.
func (b *Broker) beat(now int64, grace bool) {
	var batch zsock.Batch
	for _, c := range b.allConns() {
		c.observe(now)
		c.sayAlive(&batch, now)
		if !grace {
			c.expireSilent(&batch, now)
		} else {
			c.watch.heard = now
		}
	}
	batch.Flush()
}

// observe turns the reader's and writers' counts into times.
func (c *conn) observe(now int64) {
	w := &c.watch
	if n := c.received.Load(); n != w.received || w.heard == 0 {
		w.received, w.heard = n, now
	}
	if n := c.sent.Load(); n != w.sent || w.said == 0 {
		w.sent, w.said = n, now
	}
	idle := c.outstandingCount() == 0
	if w.idle && !idle {
		w.heard = now // from here on it beats faster
	}
	w.idle = idle
}

// sayAlive sends the heartbeat of whatever session the connection carries, unless
// something else was said within the interval.
func (c *conn) sayAlive(batch *zsock.Batch, now int64) {
	silent := now - c.watch.said
	interval := int64(c.b.cfg.Heartbeat) - int64(c.b.cfg.Heartbeat/8)
	worker, link := c.worker.Load(), c.link.Load()
	switch {
	case link != nil:
		if link.peer.Load() != nil { // every beat: it measures the way, and what was heard
			if silent >= interval || now-c.watch.heard >= interval || link.rtt.Load() == 0 || now-link.lastBeat >= interval {
				link.lastBeat = now
				link.sayBeat(batch, now)
			}
		}
	case worker != nil:
		if silent >= interval {
			worker.sayBeat(batch)
		}
	case c.client.Load() != nil:
		if silent >= interval && !c.watch.idle || silent >= int64(idleInterval) {
			c.sendControl(batch, &mdp.Command{Role: mdp.Client, Kind: mdp.Heartbeat})
		}
	}
}

// sayBeat: foreign workers get heartbeats also while busy, because asynchronous
// ones wait for them (MDP-FACTS 7.1); what piles up at blocked ones is bounded by
// the connection's queue.
func (w *worker) sayBeat(batch *zsock.Batch) {
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: w.dialect, Delimited: w.delimited}
	if err := w.conn.send(batch, &cmd, zsock.Body{}); err != nil {
		w.conn.b.count.controlDropped.Add(1)
	}
}

// sayBeat tells the peer when it was last heard, and carries our clock to be
// echoed, which measures the round trip.
func (l *link) sayBeat(batch *zsock.Batch, now int64) {
	l.c.sendControl(batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Heartbeat,
		Head: mdp.Head{Token: uint64(now), Remaining: uint32((now - l.c.watch.heard) / 1e6)}})
}

// expireSilent ends the session of a connection that was silent too long.
func (c *conn) expireSilent(batch *zsock.Batch, now int64) {
	silent := now - c.watch.heard
	limit := int64(livenessMisses * c.b.cfg.Heartbeat)
	worker := c.worker.Load()
	switch {
	case worker != nil && worker.dialect != mdp.Native:
		worker.expireForeign(batch, now, silent)
	case worker != nil || c.link.Load() != nil:
		if silent > limit {
			c.b.count.expired.Add(1)
			c.z.Close(errSilent)
		}
	case c.client.Load() != nil:
		if c.watch.idle {
			limit = livenessMisses * int64(idleInterval)
		}
		if silent > limit {
			c.b.count.expired.Add(1)
			c.z.Close(errSilent)
		}
	}
}

// expireForeign: an idle MDP worker is expired by its heartbeats; a busy one runs
// its job inside the receive loop and is mute meanwhile, so only a long limit per
// request ends it (MDP-FACTS 7.1).
func (w *worker) expireForeign(batch *zsock.Batch, now, silent int64) {
	s := w.service
	s.mu.Lock()
	why := ""
	switch {
	case w.gone:
	case len(w.held) == 0 && silent > int64(livenessMisses*max(w.conn.b.cfg.Heartbeat, foreignInterval)):
		why = "idle and silent"
	case len(w.held) > 0 && silent > int64(w.conn.b.cfg.BusyLimit):
		why = "busy for too long"
	}
	s.mu.Unlock()
	if why != "" {
		w.conn.b.count.expired.Add(1)
		w.leave(batch, why)
		w.dismiss(batch)
	}
}

// checkDrained ends the drain as soon as nothing is left to answer.
func (b *Broker) checkDrained() {
	if !b.draining.Load() || b.liveRequests() > 0 {
		return
	}
	select {
	case <-b.drained:
	default:
		close(b.drained)
	}
}
