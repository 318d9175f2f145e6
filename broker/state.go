package broker

import (
	"cmp"
	"math"
	"slices"
)

// State is a snapshot of everything an operator asks for.
type State struct {
	Name        string            `json:"name"`
	Incarnation string            `json:"incarnation"`
	UptimeMs    int64             `json:"uptime_ms"`
	Draining    bool              `json:"draining"`
	Bound       []Bound           `json:"bound"`
	Transport   []TransportState  `json:"transport"`
	Connections int               `json:"connections"`
	HeldOctets  int64             `json:"held_octets"`
	Unfinished  int64             `json:"unfinished_octets"` // of large messages that have not come whole
	Unread      int64             `json:"unread_octets"`     // wait for peers that do not keep up
	Services    []ServiceState    `json:"services"`
	Workers     []WorkerState     `json:"workers"`
	Peers       []LinkState       `json:"peers"`
	Poison      []Poison          `json:"poison"`
	Counters    map[string]uint64 `json:"counters"`
}

// TransportState is one listener: what it let in, and what it refused and ended,
// by reason.
type TransportState struct {
	Bound
	Open        int               `json:"open"`
	Handshaking int               `json:"handshaking"`
	Accepted    uint64            `json:"accepted"`
	Errors      uint64            `json:"accept_errors"` // such as no free descriptors; tried again
	Refused     map[string]uint64 `json:"refused"`
	Failed      map[string]uint64 `json:"failed"` // handshakes
	Closed      map[string]uint64 `json:"closed"` // connections that were open: docs/PROTOCOL.md section 1
}

func (b *Broker) transport() []TransportState {
	out := make([]TransportState, len(b.listeners))
	for i, l := range b.listeners {
		t := l.z.Counters()
		out[i] = TransportState{Bound: l.Bound, Open: t.Open, Handshaking: t.Handshaking, Accepted: t.Accepted,
			Errors: t.AcceptErrors, Refused: t.Refused, Failed: t.Failed, Closed: t.Closed}
	}
	return out
}

// ServiceState is one service.
type ServiceState struct {
	Name     string `json:"name"`
	Workers  int    `json:"workers"` // sessions here
	Idle     int    `json:"idle"`
	Queue    int    `json:"queue"`
	Running  int    `json:"running"`
	OldestMs int64  `json:"oldest_ms"` // age of the oldest queued request
	MeanUs   int64  `json:"mean_us"`   // service time
	Octets   int64  `json:"octets"`
	Peers    int    `json:"peers"` // linked brokers that offer it
	Wait     Times  `json:"wait"`  // of requests for their first dispatch
	Run      Times  `json:"run"`   // from dispatch to a handler's answer
	serviceStats

	// Waits and Runs are what Wait and Run sum up.
	Waits Histogram `json:"-"`
	Runs  Histogram `json:"-"`
}

// WorkerState is one worker session.
type WorkerState struct {
	Service     string   `json:"service"`
	Remote      string   `json:"remote"`
	Dialect     string   `json:"dialect"`
	Host        string   `json:"host,omitempty"`
	PID         int      `json:"pid,omitempty"`
	Version     string   `json:"version,omitempty"`
	Scope       string   `json:"scope"`
	Tags        []string `json:"tags,omitempty"`
	Concurrency int      `json:"concurrency"`
	Running     int      `json:"running"`
	Draining    bool     `json:"draining"`
	Suspect     bool     `json:"suspect"` // silent since it was given a request
	RTTUs       int64    `json:"rtt_us"`  // to probes; 0: it never answered one
	SinceMs     int64    `json:"since_ms"`
}

// State takes a snapshot. Services are read one after another, not at one instant.
func (b *Broker) State() State {
	st := State{Name: b.name, Incarnation: b.incarnation, UptimeMs: b.now() / 1e6, Draining: b.draining.Load(),
		Bound: b.Bound(), Transport: b.transport(), HeldOctets: b.held.Load(), Unfinished: b.partly.Used(), Unread: b.Unread(), Peers: b.Peers(), Counters: b.Counters(),
		Services: b.Services(), Workers: b.Workers(), Poison: b.Poison()}
	b.mu.RLock()
	st.Connections = len(b.conns)
	b.mu.RUnlock()
	return st
}

// Services lists the services by name.
func (b *Broker) Services() []ServiceState {
	now := b.now()
	out := []ServiceState{}
	for _, s := range b.allServices() {
		s.mu.Lock()
		st := ServiceState{Name: s.name, Workers: s.workers.n, Idle: s.idle.n, Queue: s.queued(), Running: s.table.live - s.queued(),
			MeanUs: s.mean.duration().Microseconds(), Octets: s.bytes, serviceStats: s.stats, Waits: s.waits, Runs: s.runs}
		if oldest := s.oldest(math.MaxInt); oldest != 0 {
			st.OldestMs = (now - oldest) / 1e6
		}
		for _, p := range s.routes {
			if p.offersNow(now) {
				st.Peers++
			}
		}
		s.mu.Unlock()
		st.Wait, st.Run = st.Waits.times(), st.Runs.times()
		out = append(out, st)
	}
	slices.SortFunc(out, func(x, y ServiceState) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// oldest is when the request that waits longest entered, 0 if none waits. It looks at
// so many clients' and peers' lines at most, in turn.
func (s *service) oldest(lines int) int64 {
	oldest := int64(0)
	note := func(entered int64) {
		if entered != 0 && (oldest == 0 || entered < oldest) {
			oldest = entered
		}
	}
	note(s.own.oldest(lines))
	note(s.guests.oldest(lines))
	if r := s.again.first; r != nil {
		note(r.entered)
	}
	return oldest
}

// Workers lists the worker sessions by service and remote address.
func (b *Broker) Workers() []WorkerState {
	now := b.now()
	out := []WorkerState{}
	for _, s := range b.allServices() {
		s.mu.Lock()
		for w := s.workers.first; w != nil; w = w.all.next {
			out = append(out, WorkerState{Service: s.name, Remote: w.conn.z.Peer().Remote, Dialect: w.dialect.String(),
				Host: w.hello.Host, PID: w.hello.PID, Version: w.hello.Version, Scope: w.scope(), Tags: w.hello.Tags,
				Concurrency: w.credit, Running: len(w.held), Draining: w.drained, Suspect: w.suspect, RTTUs: (w.rtt + 999) / 1e3, SinceMs: (now - w.since) / 1e6})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(out, func(x, y WorkerState) int {
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Remote, y.Remote))
	})
	return out
}

func (w *worker) scope() string {
	if w.local {
		return "local"
	}
	return "mesh"
}
