package broker

import (
	"fmt"

	"github.com/mdmesh/mdmesh/mdp"
)

// Bounds of the search for one request: there is no index by id, which the path of
// every request would have to pay for.
const (
	maxTraced    = 200_000 // slots looked at
	tracedAtOnce = 1_000   // of them with a service's mutex held
)

// States of a Trace.
const (
	traceQueued  = "queued"   // waits for a worker
	traceRunning = "running"  // some worker has it
	traceSent    = "sent"     // a linked broker has it
	traceKept    = "kept"     // detached and answered; the answer waits for ATTACH
	traceGivenUp = "given up" // no worker survived it
	traceNone    = "none"     // not known: answered, dropped, or never here
	traceUnknown = "unknown"  // not found among the first maxTraced
)

// Trace is what a broker knows of one request. Of what it does not keep, such as an
// answer that was delivered, it knows nothing.
type Trace struct {
	Broker   string   `json:"broker"`
	State    string   `json:"state"`
	Service  string   `json:"service,omitempty"`
	Attempt  int      `json:"attempt,omitempty"` // the latest handed out, or the next one
	AgeMs    int64    `json:"age_ms,omitempty"`  // since it entered the mesh, or was given up
	LeftMs   int64    `json:"left_ms,omitempty"` // of its deadline, or until the kept answer is dropped
	Octets   int64    `json:"octets,omitempty"`
	Once     bool     `json:"once,omitempty"`
	Detached bool     `json:"detached,omitempty"`
	From     string   `json:"from,omitempty"`    // who asked this broker
	Holders  []string `json:"holders,omitempty"` // workers and linked brokers that have it
	Status   int      `json:"status,omitempty"`  // of the kept answer, where that is an error
	Text     string   `json:"text,omitempty"`    // the error, or why it was given up
}

// mmiRequest answers where the request is whose id, 32 hex digits, is the body.
func (b *Broker) mmiRequest(body [][]byte) []byte {
	if len(body) == 0 {
		return []byte("400")
	}
	id, err := mdp.ParseRequestID(string(body[0]))
	if err != nil {
		return []byte("400")
	}
	return encodeListing(b.Trace(id), body)
}

// Trace tells what this broker knows of a request, in one entry at least. What has
// the id twice, as a client may have sent it again, has two.
func (b *Broker) Trace(id mdp.RequestID) []Trace {
	out, whole := b.traceLive(id)
	if t, ok := b.detached.trace(id, b.now()); ok {
		out = append(out, t)
	}
	for _, p := range b.Poison() {
		if p.ID == id.String() {
			out = append(out, Trace{State: traceGivenUp, Service: p.Service, Attempt: p.Attempts, AgeMs: p.AgeMs, Octets: p.Octets,
				Holders: []string{p.Worker}, Text: p.Reason})
		}
	}
	if len(out) == 0 {
		out = []Trace{{State: traceNone}}
		if !whole {
			out[0].State = traceUnknown
		}
	}
	for i := range out {
		out[i].Broker = b.name
	}
	return out
}

// traceLive looks for the request among those that are queued or held, and tells
// whether it has seen all.
func (b *Broker) traceLive(id mdp.RequestID) (out []Trace, whole bool) {
	left, now := maxTraced, b.now()
	for _, s := range b.allServices() {
		for from := 0; ; from += tracedAtOnce {
			s.mu.Lock()
			slots := s.table.slots[min(from, len(s.table.slots)):]
			seen := min(len(slots), tracedAtOnce, left)
			for _, r := range slots[:seen] {
				if r.live && r.id == id {
					out = append(out, r.trace(now))
				}
			}
			s.mu.Unlock()
			left -= seen
			if seen == len(slots) {
				break
			}
			if left == 0 {
				return out, false
			}
		}
	}
	return out, true
}

// trace is what is known of a request that is not answered. Callers hold the
// service's mutex.
func (r *request) trace(now int64) Trace {
	t := Trace{State: traceQueued, Service: r.service.name, Attempt: int(r.nextAttempt()), AgeMs: (now - r.entered) / 1e6,
		LeftMs: int64(r.remaining(now)), Octets: r.size, Once: r.once(), Detached: r.from.detached, From: r.from.String()}
	for _, h := range r.holders {
		t.Holders = append(t.Holders, h.String())
		t.Attempt = int(h.attempt)
		switch {
		case h.worker != nil:
			t.State = traceRunning
		case t.State == traceQueued:
			t.State = traceSent
		}
	}
	return t
}

// String names who asked, for people. A client's instance stays out: by it the client
// fetches its detached answers, and others must not.
func (o *origin) String() string {
	switch {
	case o.local != nil:
		return "http"
	case o.conn == nil:
		return "a client that has gone"
	case o.role == mdp.Peer:
		return "broker " + o.conn.link.Load().peerName()
	}
	remote := o.conn.z.Peer().Remote
	if who := o.conn.client.Load(); who != nil && who.hello.Host != "" {
		return fmt.Sprintf("%s (pid %d on %s)", remote, who.hello.PID, who.hello.Host)
	}
	return remote
}

// trace tells of a detached request whose answer is kept: not the answer, which is
// for its own client alone.
func (d *detached) trace(id mdp.RequestID, now int64) (t Trace, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[id]
	if e == nil || !e.done {
		return t, false
	}
	t = Trace{State: traceKept, LeftMs: max((e.until-now)/1e6, 0), Octets: int64(e.body.Cost()), Detached: true}
	if e.err != nil {
		t.Status, t.Text = int(e.err.Status), e.err.Text
	}
	return t, true
}
