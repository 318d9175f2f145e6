package broker

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// watch is what the ticker remembers of one connection. The reader only counts
// reads, so that a part of a large message is a sign of life, too; turning counts
// into times here keeps clocks off the hot path.
type watch struct {
	reads, sent uint32
	heard, said int64 // broker clock of the last change seen
	idle        bool  // nothing outstanding at the last look
	reader      stare
	expired     bool

	// Of foreign workers, whose protocol does not say how often they beat.
	gap      int64 // between the sign of life seen at this look and the one before; 0: none seen
	worked   bool  // it held a request since the last sign, and may have been mute for that
	interval int64 // longest gap it left while idle
}

// stare looks at the reader of a connection again and again.
type stare struct{ turns uint32 }

// stuck tells whether the reader has been at the same thing since the last look, which
// may be something of another connection: what came meanwhile is unread.
func (s *stare) stuck(z transport) bool {
	turns := z.Turns()
	same := turns == s.turns && turns%2 == 1
	s.turns = turns
	return same
}

// learn takes in how long an idle foreign worker was silent between two signs. What
// it learns is of the connection: a worker that was ended too early says READY again.
func (w *watch) learn(busy bool) {
	if w.gap > 0 && !w.worked && !busy {
		w.interval = min(max(w.interval, w.gap), int64(maxInterval))
	}
	w.worked = busy || w.worked && w.gap == 0
}

// flushEvery is how many connections the ticker says something to before it writes:
// until then what others send to them waits for it.
const flushEvery = 256

// tick is the broker's only clock, until ctx ends.
func (b *Broker) tick(ctx context.Context) error {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	t := ticks{b: b, last: b.now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			t.step(b.now())
			b.turned.Store(b.now())
		}
	}
}

// ticks is the state of the one ticker: deadlines every wheelTick, heartbeats
// every quarter of the heartbeat, the rest once a second.
type ticks struct {
	b                   *Broker
	last                int64
	nextBeat, nextSweep int64
	graceUntil          int64
	lateAt              int64 // when a tick last came late
	due                 []*request
	services            []*service
	conns               func() []*conn // in the order to look at them; nil: in any
}

// step does what is due at now.
func (t *ticks) step(now int64) {
	b := t.b
	if now-t.last > int64(max(b.cfg.Heartbeat/2, 5*wheelTick)) {
		// This process was paused: what peers sent meanwhile is unread. Let the
		// readers drain it before anybody is called silent.
		b.count.pauses.Add(1)
		b.note(hclog.Warn, "the broker was paused", "gap-ms", (now-t.last)/1e6)
		t.graceUntil = now + int64(b.cfg.Heartbeat)
		t.nextBeat = now
	}
	if now-t.last > int64(lateTick) {
		t.lateAt = now
	}
	t.last = now
	clear(t.services)
	t.services = b.appendServices(t.services[:0])
	t.expireDue(now)
	if now >= t.nextBeat {
		t.nextBeat = now + int64(b.cfg.Heartbeat/4)
		conns := b.allConns
		if t.conns != nil {
			conns = t.conns
		}
		b.beat(conns(), now, now < t.graceUntil)
	}
	if now >= t.nextSweep {
		t.nextSweep = now + int64(time.Second)
		t.sweep(now)
	}
	b.checkDrained(t.services, now)
}

// expireDue answers the requests whose deadline has passed, looks for signs of
// workers, and goes on with what was too much to be done in one go.
func (t *ticks) expireDue(now int64) {
	var batch zsock.Batch
	for _, s := range t.services {
		for t.expire(&batch, s, now) {
			batch.Flush() // a client may have many of one deadline
		}
		s.mu.Lock()
		if s.unheard.n > 0 {
			s.watchUnheard(&batch, now, max(t.lateAt, t.graceUntil))
		}
		more := s.goOn(&batch, now)
		s.mu.Unlock()
		if more {
			s.endMore(&batch)
		}
		if batch.Heavy() {
			batch.Flush()
		}
	}
	clear(t.due)
	batch.Flush()
}

// expire answers a portion of what is due in one service, and reports whether there
// may be more.
func (t *ticks) expire(batch *zsock.Batch, s *service, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.due = s.wheel.due(now, t.due[:0], portion)
	for _, r := range t.due {
		s.expire(batch, r)
	}
	return len(t.due) == portion
}

// sweep does what is not urgent: foreign requests that nobody offers to do, kept
// answers, services nobody uses.
func (t *ticks) sweep(now int64) {
	t.b.detached.expire(now)
	var batch zsock.Batch
	foreign := make(map[*link]int32)
	for _, s := range t.services {
		s.mu.Lock()
		s.sweep(&batch, now)
		s.countSuspects(now)
		s.countForeign(foreign)
		unused := s.unusedLocked(now)
		s.mu.Unlock()
		if unused {
			t.b.forgetIfUnused(s)
		}
		batch.Flush()
	}
	t.b.judge(foreign)
}

func (s *service) sweep(batch *zsock.Batch, now int64) {
	for w := s.workers.first; w != nil; w = w.all.next {
		if messages, _ := w.conn.z.Queued(); w.stuck && messages == 0 {
			w.stuck = false
			w.wait()
		}
		w.hollow(now)
	}
	s.dispatch(batch)
	s.own.sweep()
	s.guests.sweep()
	if s.offered(now) {
		s.unoffered = 0
		return
	}
	if s.unoffered == 0 {
		s.unoffered = now
	}
	s.dropUnoffered(batch, now)
}

// dropUnoffered ends the requests that nobody else will give up, once they have waited
// for ForeignTTL while nobody offers the service. However old they are, a worker that
// starts again gets them.
func (s *service) dropUnoffered(batch *zsock.Batch, now int64) {
	ttl := int64(s.b.cfg.ForeignTTL)
	if now-s.unoffered <= ttl {
		return
	}
	for _, r := range s.waiting() {
		abandoned := r.from.detached && r.from.conn == nil
		if (r.from.dialect != mdp.Native || abandoned) && now-r.entered > ttl {
			s.stats.Expired++
			err := mdp.Errorf(mdp.NoWorker, "nobody offers %q", s.name)
			err.MayHaveRun = r.mayHaveRun()
			s.fail(batch, r, err)
		}
	}
}

// beat looks at every connection: says something where it was silent, ends
// sessions of peers that were. In a grace after a pause nobody is ended.
func (b *Broker) beat(conns []*conn, now int64, grace bool) {
	var batch zsock.Batch
	for i, c := range conns {
		if i%flushEvery == flushEvery-1 || batch.Heavy() {
			batch.Flush()
		}
		c.observe(now)
		if grace {
			c.watch.heard, c.watch.gap = now, 0 // before it is said to peers how long they were silent
		}
		if l := c.link.Load(); l != nil {
			l.look(&batch, now)
		}
		c.sayAlive(&batch, now)
		c.expireSilent(&batch, now)
	}
	batch.Flush()
}

// observe turns the reader's and writers' counts into times.
func (c *conn) observe(now int64) {
	w := &c.watch
	w.gap = 0
	if n := c.z.Reads(); n != w.reads || w.heard == 0 {
		if w.heard != 0 {
			w.gap = now - w.heard
		}
		w.reads, w.heard = n, now
		if l := c.link.Load(); l != nil {
			l.heard.Store(now)
		}
	}
	if w.reader.stuck(c.z) {
		w.heard, w.gap = now, 0 // it may have spoken: we have not listened
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
	beat := int64(c.b.cfg.Heartbeat)
	interval := beat * 5 / 8 // what was said shows up to a quarter late, and the next look is a quarter away
	worker, link := c.worker.Load(), c.link.Load()
	switch {
	case link != nil:
		// Also beside other traffic: it measures the way, and says what was heard.
		turned := link.paused.Load() != link.toldPaused
		if link.peer.Load() != nil && (link.rtt.Load() == 0 || turned || now-link.lastBeat >= beat*7/8) {
			link.lastBeat = now
			link.sayBeat(batch, now)
			if turned {
				c.b.retell(link) // what is offered again counts only behind this
			}
		}
	case worker != nil:
		if silent >= interval {
			worker.sayBeat(batch)
		}
	case c.client.Load() != nil:
		// Who is still sending a large request waits for an answer already. In a grace
		// nobody has a gap: all of them at once are not to be written to.
		waits := !c.watch.idle || c.watch.gap > 0
		if waits && silent >= interval || silent >= int64(idleInterval) {
			c.sendControl(batch, &mdp.Command{Role: mdp.Client, Kind: mdp.Heartbeat})
		}
	}
}

// sayBeat: foreign workers get heartbeats also while busy, because asynchronous
// ones wait for them (docs/PROTOCOL.md section 9); those that are blocked get a few and no more.
func (w *worker) sayBeat(batch *zsock.Batch) {
	const enough = 4
	if messages, _ := w.conn.z.Queued(); messages >= enough {
		return
	}
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: w.dialect, Delimited: w.delimited}
	if err := w.conn.send(batch, &cmd, zsock.Body{}); err != nil {
		w.conn.b.count.controlDropped.Add(1)
	}
}

// sayBeat tells the peer when it was last heard and whether the link is paused, and
// carries our clock to be echoed, which measures the round trip.
func (l *link) sayBeat(batch *zsock.Batch, now int64) {
	head := mdp.Head{Token: uint64(now), Remaining: uint32((now - l.c.watch.heard) / 1e6)}
	if l.toldPaused = l.paused.Load(); l.toldPaused {
		head.Flags = mdp.FlagPaused
	}
	l.c.sendControl(batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Heartbeat, Head: head})
}

// expireSilent ends the session of a connection that was silent too long.
func (c *conn) expireSilent(batch *zsock.Batch, now int64) {
	silent := now - c.watch.heard
	limit := int64(livenessMisses * c.b.cfg.Heartbeat)
	worker := c.worker.Load()
	switch {
	case worker != nil && worker.dialect != mdp.Native:
		worker.expireForeign(batch, now, silent)
	case worker != nil:
		if silent > limit {
			worker.expireNative(batch, now, silent)
		}
	case c.link.Load() != nil:
		if silent > limit {
			c.expire(errSilent)
		}
	case c.client.Load() != nil:
		if c.watch.idle {
			limit = livenessMisses * int64(idleInterval)
		}
		if silent > limit {
			c.expire(errSilent)
		}
	}
}

// expire ends a connection, which may take until after the next look.
func (c *conn) expire(why error) {
	if c.watch.expired {
		return
	}
	c.watch.expired = true
	c.b.count.expired.Add(1)
	c.z.Close(why)
}

// expireNative ends the session of a worker that was silent for three heartbeats.
// One that holds something loses that at once, and stays for a while. Silence does
// not count before what it was sent can have arrived.
func (w *worker) expireNative(batch *zsock.Batch, now, silent int64) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if now-w.arrival <= int64(livenessMisses*s.b.cfg.Heartbeat) {
		return
	}
	if len(w.held) > 0 && silent <= int64(parkedBeats*s.b.cfg.Heartbeat) {
		w.forsake(batch, silent)
		return
	}
	w.conn.expire(errSilent)
}

// expireForeign: an idle MDP worker is expired by its heartbeats; a busy one runs
// its job inside the receive loop and is mute meanwhile, so only a long limit per
// request ends it (docs/PROTOCOL.md section 9).
func (w *worker) expireForeign(batch *zsock.Batch, now, silent int64) {
	s := w.service
	learned := &w.conn.watch
	s.mu.Lock()
	why := ""
	learned.learn(len(w.held) > 0)
	switch {
	case w.gone:
	case len(w.held) == 0 && silent > livenessMisses*max(int64(max(w.conn.b.cfg.Heartbeat, foreignInterval)), learned.interval):
		why = "idle and silent"
	case len(w.held) > 0 && now-w.busySince > int64(w.conn.b.cfg.BusyLimit):
		why = "busy for too long"
	}
	s.mu.Unlock()
	if why != "" {
		w.conn.b.count.expired.Add(1)
		w.leave(batch, why)
		w.dismiss(batch)
	}
}
