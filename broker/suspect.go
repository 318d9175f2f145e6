package broker

import (
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// How long a worker may say nothing after it was given a request.
const (
	probeAfter  = 50 * time.Millisecond  // since the request has arrived at its host: then it is probed
	minPatience = 250 * time.Millisecond // since the probe has: then it is suspect
	minRate     = 1 << 20                // octets a second of a slow way to it: what they need is not silence
	moveEvery   = 100 * time.Millisecond // how often a suspect's requests are looked at while the budget is used up
	hollowBeats = 10                     // heartbeats a worker may take to answer nothing but CANCELs
	parkedBeats = 10 * livenessMisses    // heartbeats a silent worker that held something may still come back in
	// A broker whose ticks come later than this may itself be what is slow.
	lateTick = 3 * wheelTick
)

// trust is what the broker knows of a worker's being alive, beside heartbeats. Only
// workers that have answered a probe are judged by it: one that never did may
// read nothing while it works. Guarded by the service's mutex.
type trust struct {
	rtt     int64  // of the answers to probes: rises at once, falls slowly; 0: never answered
	probe   uint64 // token of the last probe: when it was sent
	suspect bool   // gets nothing new until it speaks again

	hollowAt int64 // since when it holds nothing but what was cancelled

	// The following say since when a sign is due, while the worker is in its
	// service's list of the unheard.
	due    bool
	signs  uint32 // how often its connection had been read when the clock started
	clock  int64  // start of the clock: the first dispatch since the last sign, or the probe
	probed bool   // the clock started when the probe was sent
	reader stare
	again  int64 // not before this time are a suspect's requests looked at again
	moved  bool  // a suspect's requests were given to others, as far as they may be
	place  place[worker]

	flight
}

// flight is what may still be on its way to a worker: something between may take in
// octets faster than it passes them on, and so may the worker's host.
type flight struct {
	sent    int64 // octets of all requests so far
	arrived int64 // of these it has read at least so many: it answered what came behind them
	arrival int64 // when the rest has arrived at the latest, at minRate
	probeAt int64 // sent, when the last probe was
}

// launch counts a request. It returns the mark by which its answer tells that it arrived.
func (f *flight) launch(now, size int64) (mark int64) {
	f.sent += size
	f.arrival = max(f.arrival, now) + atMinRate(size)
	return f.sent
}

// reached takes in that everything up to the mark has arrived.
func (f *flight) reached(mark int64) {
	if mark <= f.arrived {
		return
	}
	f.arrival -= atMinRate(mark - f.arrived)
	f.arrived = mark
	if mark == f.sent {
		f.arrival = 0
	}
}

func atMinRate(octets int64) (nanoseconds int64) { return octets * int64(time.Second) / minRate }

// expectSign starts the clock of a dispatch, unless it runs for an earlier one.
// Whatever the connection receives from now on accepts the request.
func (w *worker) expectSign(now int64) {
	signs := w.conn.z.Reads()
	switch {
	case w.rtt == 0:
		return
	case !w.due:
		w.due = true
		w.service.unheard.pushBack(w)
	case signs == w.signs:
		return
	}
	w.signs, w.clock, w.probed = signs, now, false
}

// watchUnheard looks, once a tick, at the workers that were given something and have
// said nothing since. Silence before trustFrom does not count: then the broker
// itself may not have listened.
func (s *service) watchUnheard(batch *zsock.Batch, now, trustFrom int64) {
	changed := false
	for w := s.unheard.first; w != nil; {
		next := w.place.next
		w.clock = max(w.clock, trustFrom)
		changed = w.judge(batch, now) || changed
		w = next
	}
	if changed {
		s.changed()
		s.dispatch(batch)
	}
}

// judge decides what a worker's silence means. It reports whether the service has
// something to dispatch, or somebody to dispatch to.
func (w *worker) judge(batch *zsock.Batch, now int64) bool {
	limit, since := int64(probeAfter), w.clock
	if w.probed {
		limit, since = max(int64(minPatience), 4*w.rtt), max(w.clock, w.arrival)
	}
	stuck := w.reader.stuck(w.conn.z)
	switch {
	case w.conn.z.Reads() != w.signs:
		if !w.probed && now < w.arrival {
			w.sendProbe(batch, now) // a heartbeat does not tell what has arrived
		}
		return w.heardOf()
	case w.suspect:
		return w.moveHeld(batch, now)
	case stuck:
		w.clock = now // we have not listened
	case now-since < limit:
	case w.conn.z.Unsent() > 0: // a slow link is not silence
		w.clock = now
	case !w.probed:
		w.sendProbe(batch, now)
		w.clock, w.probed = now, true
	default:
		w.suspected(now - w.clock)
		w.moveHeld(batch, now)
		w.service.turnAway(batch)
		return true
	}
	return false
}

// heardOf ends the wait for a sign.
func (w *worker) heardOf() bool {
	w.service.unheard.remove(w)
	was := w.suspect
	w.due, w.suspect, w.moved = false, false, false
	if was {
		w.wait()
		w.conn.b.note(hclog.Info, "worker speaks again", "service", w.service.name, "remote", w.conn.z.Peer().Remote)
	}
	return was
}

// sendProbe asks for a sign of life. The token is our clock.
func (w *worker) sendProbe(batch *zsock.Batch, now int64) {
	w.probe, w.probeAt = uint64(now), w.sent
	w.conn.b.count.probesSent.Add(1)
	w.conn.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Head: mdp.Head{Token: w.probe}})
}

// answeredProbe takes a HEARTBEAT with a token: it measures the way.
func (w *worker) answeredProbe() {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.probe == 0 || w.conn.cmd.Head.Token != w.probe {
		return
	}
	sample := max(s.b.now()-int64(w.probe), 1)
	if longer := sample - w.rtt; longer > 0 {
		sample -= min(longer, atMinRate(w.probeAt-w.arrived)) // it may have waited behind these
	}
	if w.rtt > 0 { // a worker that was stopped for a while is no farther away than before
		sample = min(sample, max(2*w.rtt, int64(minPatience)/4))
	}
	w.probe = 0
	w.reached(w.probeAt)
	w.rtt = max(sample, w.rtt-(w.rtt-sample)/4, 1)
}

// suspected takes the worker out of rotation.
func (w *worker) suspected(silent int64) {
	if !w.due {
		w.due = true
		w.service.unheard.pushBack(w)
		w.signs = w.conn.z.Reads()
	}
	w.suspect, w.again = true, 0
	w.wait()
	w.conn.b.count.suspicions.Add(1)
	w.conn.b.note(hclog.Warn, "worker is suspect: no sign since it was given a request", "service", w.service.name,
		"remote", w.conn.z.Peer().Remote, "silent-ms", silent/1e6, "held", len(w.held))
}

// moveHeld gives what a suspect holds to others, where the rules for redelivery
// permit it and the budget allows. The CANCELs queue behind the requests, so that a worker
// that wakes up starts none of them; it stays a valid answerer until then.
func (w *worker) moveHeld(batch *zsock.Batch, now int64) (moved bool) {
	if w.moved || now < w.again {
		return false
	}
	s := w.service
	w.moved = true
	for _, h := range newestFirst(slices.Clone(w.held)) {
		i := h.r.holder(w, nil)
		if h.r.holders[i].doubted || h.r.trusted(w) || !s.mayRedeliver(h.r) && !h.r.mayGoHome() {
			continue
		}
		if !s.budget.take(now, s.stats.Answered) {
			w.moved, w.again = false, now+int64(moveEvery) // the rest later
			return moved
		}
		moved = true
		w.cancel(batch, h.r)
		if h.r.guest() {
			w.letGo(h.r)
			s.lost(batch, h.r, mdp.WorkerLost, "worker is suspect")
			continue
		}
		h.r.moved = true
		if h.r.begun() {
			w.letGo(h.r) // what it sent of the answer is gone, or must not be mixed with another's
			s.forgetCollected(h.r)
		} else {
			h.r.holders[i].doubted = true
		}
		s.stats.Redelivered++
		s.enqueue(h.r)
	}
	return moved
}

// mayGoHome tells whether the home of a guest may give it to another worker: that
// takes it back from a suspect, though it may have run. What its home would have to
// fail stays, as our own requests do.
func (r *request) mayGoHome() bool {
	return r.guest() && !r.once() && r.attempt < maxAttempts &&
		(r.partials == 0 || r.flags&mdp.FlagRestartable != 0)
}

// letGo takes the worker off the request's holders; its place stays taken until
// its FINAL comes, which is late.
func (w *worker) letGo(r *request) {
	w.orphan(r.holders[r.holder(w, nil)].at, true)
	r.moved = true
	r.dropHolder(w, nil)
}

// has tells whether the worker was given the request and has not answered, however
// little that counts by now: it knows the token.
func (w *worker) has(r *request) bool {
	_, orphaned := w.orphans[r.token()]
	return orphaned || r.holder(w, nil) >= 0
}

// forsake is called when a worker that holds something was silent for three
// heartbeats: what it holds is lost, `once` included. The session stays for
// a while, so that its late answers are recognised and it can come back.
func (w *worker) forsake(batch *zsock.Batch, silent int64) {
	s := w.service
	if w.gone || w.forsaken() {
		return
	}
	if !w.suspect {
		w.suspected(silent)
	}
	w.moved = true
	var ended endings
	for _, h := range newestFirst(slices.Clone(w.held)) {
		if !h.r.holders[h.r.holder(w, nil)].doubted {
			w.cancel(batch, h.r)
		}
		w.letGo(h.r)
		ended.add(h.token, s.loss(h.r, mdp.WorkerLost, "worker was silent for three heartbeats"))
	}
	s.end(batch, ended)
	s.turnAway(batch)
	s.changed()
	s.dispatch(batch)
}

// forsaken tells whether everything the worker holds was taken from it already.
func (w *worker) forsaken() bool {
	return w.suspect && len(w.orphans) == len(w.held)
}

// hollow ends a native session that for long has held nothing but requests it was told
// to cancel: their FINALs were lost, or its handlers heed nothing. A new session
// begins with empty hands. While it is suspect it may not have read of the CANCELs. It is
// called once a second.
func (w *worker) hollow(now int64) {
	if w.suspect || w.dialect != mdp.Native || len(w.held) == 0 || len(w.orphans) < len(w.held) {
		w.hollowAt = 0
		return
	}
	if w.hollowAt == 0 {
		w.hollowAt = now
	}
	if now-w.hollowAt > int64(hollowBeats*w.conn.b.cfg.Heartbeat) {
		w.conn.expire(errHollow)
	}
}

// budget bounds how much work suspicion may double: a tenth of recent answers, at
// least ten a second, and a burst for what one worker holds.
type budget struct {
	left     float64
	at       int64
	answered uint64
}

const (
	budgetShare = 0.1
	budgetRate  = 10.0 / float64(time.Second)
	budgetBurst = 100.0
)

func (b *budget) take(now int64, answered uint64) bool {
	if b.at == 0 {
		b.left = budgetBurst
	} else {
		b.left = min(b.left+budgetShare*float64(answered-b.answered)+budgetRate*float64(now-b.at), budgetBurst)
	}
	b.at, b.answered = now, answered
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
