package broker

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
)

// counters count what concerns no single service. Every drop has one.
type counters struct {
	malformed         atomic.Uint64 // messages no dialect explains
	probes            atomic.Uint64 // empty messages (ZMQ_PROBE_ROUTER)
	protocolErrors    atomic.Uint64 // commands that have no place where they came
	strangers         atomic.Uint64 // worker commands without a session
	servicesRefused   atomic.Uint64 // names beyond the bound
	servicesLingering atomic.Uint64 // not forgotten: a link keeps its maximum of accounts
	workersRefused    atomic.Uint64
	unaskedReplies    atomic.Uint64 // replies to nothing the sender held
	foreignUnanswered atomic.Uint64 // errors that MDP/0.1 and 0.2 cannot tell
	answersDropped    atomic.Uint64 // the asking side's connection refused them
	requestsRefused   atomic.Uint64 // a worker's or peer's connection refused them
	requestsUnwritten atomic.Uint64 // given back: their connection ended before they were written
	requestsReturned  atomic.Uint64 // of peers, not started: there was room where they came from
	controlDropped    atomic.Uint64 // heartbeats and the like
	partialsDropped   atomic.Uint64 // parts of answers that nobody takes, or that do not fit where they go or are kept
	expired           atomic.Uint64 // sessions that were silent too long
	probesSent        atomic.Uint64 // to workers silent since they were given a request, and to new ones
	displaced         atomic.Uint64 // queued requests refused to make room for clients with fewer
	suspicions        atomic.Uint64 // workers taken out of rotation for silence
	pauses            atomic.Uint64 // times this process was found to have been paused
	eventsIn          atomic.Uint64
	eventsOut         atomic.Uint64
	eventsDropped     atomic.Uint64 // a subscriber's or a peer's connection refused them
	eventsUnread      atomic.Uint64 // nobody subscribed
	eventsLost        atomic.Uint64 // gaps in what came over links
	eventsRepeated    atomic.Uint64 // came over a link again, or over a paused one
	prefixesRefused   atomic.Uint64 // beyond what one subscriber or all of them may hold
	stateDropped      atomic.Uint64 // a peer's word, for want of room
	peerLies          atomic.Uint64 // peers confirmed what was never sent, or not what was
	floods            atomic.Uint64 // links ended because the peer said too much
	linksDisplaced    atomic.Uint64 // accepted links that a configured one of the same name ended
	httpRefused       atomic.Uint64 // calls: too many at once, or no room for their bodies
	mmiRefused        atomic.Uint64 // too many questions to the broker at once
	forgotten         forgottenStats
}

// forgottenStats keeps the totals of services that were forgotten.
type forgottenStats struct {
	requests, answered, failed, returned, redelivered, late, expired, cancelled, offloaded, busy atomic.Uint64
}

func (f *forgottenStats) add(s serviceStats) {
	f.requests.Add(s.Requests)
	f.answered.Add(s.Answered)
	f.failed.Add(s.Failed)
	f.returned.Add(s.Returned)
	f.redelivered.Add(s.Redelivered)
	f.late.Add(s.Late)
	f.expired.Add(s.Expired)
	f.cancelled.Add(s.Cancelled)
	f.offloaded.Add(s.Offloaded)
	f.busy.Add(s.Busy)
}

// Counters returns the broker's cumulative counters by name, services summed up.
func (b *Broker) Counters() map[string]uint64 {
	c, f := &b.count, &b.count.forgotten
	m := map[string]uint64{
		"malformed": c.malformed.Load(), "probes": c.probes.Load(), "protocol_errors": c.protocolErrors.Load(),
		"services_lingering": c.servicesLingering.Load(),
		"strangers":          c.strangers.Load(), "workers_refused": c.workersRefused.Load(), "services_refused": c.servicesRefused.Load(), "unasked_replies": c.unaskedReplies.Load(),
		"foreign_unanswered": c.foreignUnanswered.Load(), "answers_dropped": c.answersDropped.Load(),
		"requests_refused": c.requestsRefused.Load(), "requests_unwritten": c.requestsUnwritten.Load(), "requests_returned": c.requestsReturned.Load(), "control_dropped": c.controlDropped.Load(),
		"partials_dropped": c.partialsDropped.Load(), "sessions_expired": c.expired.Load(), "pauses": c.pauses.Load(),
		"displaced": c.displaced.Load(), "probes_sent": c.probesSent.Load(), "suspicions": c.suspicions.Load(),
		"events_in": c.eventsIn.Load(), "events_out": c.eventsOut.Load(), "events_dropped": c.eventsDropped.Load(),
		"events_unread": c.eventsUnread.Load(), "events_lost": c.eventsLost.Load(), "events_repeated": c.eventsRepeated.Load(),
		"state_sent": b.stateSeq.Load(), "state_dropped": c.stateDropped.Load(), "prefixes_refused": c.prefixesRefused.Load(), "peer_lies": c.peerLies.Load(), "floods": c.floods.Load(), "links_displaced": c.linksDisplaced.Load(), "http_refused": c.httpRefused.Load(), "mmi_refused": c.mmiRefused.Load(),
		"requests": f.requests.Load(), "answered": f.answered.Load(), "failed": f.failed.Load(), "returned": f.returned.Load(), "redelivered": f.redelivered.Load(),
		"late": f.late.Load(), "expired": f.expired.Load(), "cancelled": f.cancelled.Load(), "offloaded": f.offloaded.Load(), "busy": f.busy.Load(),
	}
	for _, l := range b.listeners {
		t := l.z.Counters()
		m["connections_accepted"] += t.Accepted
		m["accept_errors"] += t.AcceptErrors
		m["connections_refused"] += sum(t.Refused)
		m["handshakes_failed"] += sum(t.Failed)
		m["pongs_dropped"] += t.DroppedPongs
		m["zmtp_ignored"] += t.IgnoredMessages
	}
	for _, s := range b.allServices() {
		s.mu.Lock()
		t := s.stats
		s.mu.Unlock()
		m["requests"] += t.Requests
		m["answered"] += t.Answered
		m["failed"] += t.Failed
		m["returned"] += t.Returned
		m["redelivered"] += t.Redelivered
		m["late"] += t.Late
		m["expired"] += t.Expired
		m["cancelled"] += t.Cancelled
		m["offloaded"] += t.Offloaded
		m["busy"] += t.Busy
	}
	return m
}

// drops are the counters that count something that was not delivered as asked.
var drops = []string{"answers_dropped", "busy", "cancelled", "connections_refused", "control_dropped", "displaced", "events_dropped", "events_lost",
	"expired", "foreign_unanswered", "handshakes_failed", "http_refused", "late", "malformed", "mmi_refused", "partials_dropped", "pongs_dropped", "prefixes_refused", "protocol_errors",
	"requests_refused", "services_refused", "state_dropped", "strangers", "unasked_replies", "workers_refused", "zmtp_ignored"}

// IsDrop tells whether the counter of this name counts what was dropped or refused.
func IsDrop(counter string) bool { return slices.Contains(drops, counter) }

// Poison is a request that used up its tries.
type Poison struct {
	ID       string `json:"id"`
	Service  string `json:"service"`
	Attempts int    `json:"attempts"`
	Octets   int64  `json:"octets"`
	Reason   string `json:"reason"`
	Worker   string `json:"worker"` // the last one that held it, or the linked broker
	AtMs     int64  `json:"at_ms"`  // since the broker's start
	AgeMs    int64  `json:"age_ms"` // since then
}

// Poison lists the last 100 requests that used up their tries, oldest first.
func (b *Broker) Poison() []Poison {
	b.poisonMu.Lock()
	defer b.poisonMu.Unlock()
	out := append([]Poison{}, b.poison...)
	for i := range out {
		out[i].AgeMs = b.now()/1e6 - out[i].AtMs
	}
	return out
}

// poisoned keeps the head of a request that no worker survived in a ring of the
// last 100.
func (s *service) poisoned(r *request, why string) {
	b := s.b
	who := r.last.String()
	b.note(hclog.Warn, "request given up", "service", s.name, "request", r.id.String(), "attempts", r.nextAttempt()-1, "reason", why, "worker", who)
	b.poisonMu.Lock()
	defer b.poisonMu.Unlock()
	if len(b.poison) >= poisonKept {
		b.poison = append(b.poison[:0], b.poison[1:]...)
	}
	b.poison = append(b.poison, Poison{ID: r.id.String(), Service: s.name, Attempts: int(r.nextAttempt() - 1), Octets: r.size, Reason: why, Worker: who, AtMs: b.now() / 1e6})
}

// String names a holder for people.
func (h holder) String() string {
	switch {
	case h.route != nil:
		return "broker " + h.route.link.peerName()
	case h.worker == nil:
		return ""
	case h.worker.hello.Host != "":
		return fmt.Sprintf("%s (pid %d on %s)", h.worker.conn.z.Peer().Remote, h.worker.hello.PID, h.worker.hello.Host)
	}
	return h.worker.conn.z.Peer().Remote
}

func sum(byReason map[string]uint64) (n uint64) {
	for _, k := range byReason {
		n += k
	}
	return n
}
