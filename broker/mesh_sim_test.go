package broker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// TestMeshSimulation lets scripted workers and clients misbehave at random, in one
// broker or over a link, and checks the history: every request has exactly one
// outcome at its client and it is an answer to that request, nothing runs more
// often than it may, and in the end the broker holds nothing.
func TestMeshSimulation(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &meshSimulation{mesh: mesh{t, memsock.New()}, rand: rand.New(rand.NewPCG(seed, 1)), asked: make(map[mdp.RequestID]*asked)}
				s.run()
			})
		})
	}
}

type meshSimulation struct {
	mesh
	rand    *rand.Rand
	brokers []*Broker
	workers []*simWorker
	clients []*simClient
	asked   map[mdp.RequestID]*asked
	ids     uint64
}

// asked is the history of one request.
type asked struct {
	flags     uint8
	attempts  map[uint16]int // dispatches seen by workers
	runs      int            // handlers started
	outcomes  []mdp.Status
	cancelled bool // by its client, or with it
}

type simWorker struct {
	*peer
	held  []*message
	begun map[*message]bool // handlers started
	until time.Time         // paused: reads and says nothing
}

type simClient struct {
	*peer
	open map[uint64]mdp.RequestID
}

func (s *meshSimulation) run() {
	s.brokers = []*Broker{s.broker("a")}
	if s.rand.IntN(2) == 0 {
		s.brokers = append(s.brokers, s.broker("b", peers("a")))
		s.up(s.brokers[0], 1)
		if s.rand.IntN(2) == 0 { // a third one, linked with both
			s.brokers = append(s.brokers, s.broker("c", peers("a", "b")))
			s.up(s.brokers[0], 2)
		}
	}
	for range 3 {
		s.hire()
		s.join()
	}
	for range 150 {
		s.step()
		s.pass(time.Duration(s.rand.IntN(30)) * time.Millisecond)
		s.observe()
	}
	s.finish()
}

// any draws one of the brokers.
func (s *meshSimulation) any() *Broker { return s.brokers[s.rand.IntN(len(s.brokers))] }

func (s *meshSimulation) hire() {
	if len(s.workers) < 6 {
		s.workers = append(s.workers, &simWorker{peer: s.worker(s.any(), "s", 1+s.rand.IntN(3)), begun: make(map[*message]bool)})
	}
}

func (s *meshSimulation) join() {
	if len(s.clients) < 5 {
		s.ids++
		s.clients = append(s.clients, &simClient{s.client(s.any(), fmt.Sprint(s.ids)), make(map[uint64]mdp.RequestID)})
	}
}

// step does one random thing.
func (s *meshSimulation) step() {
	switch n := s.rand.IntN(100); {
	case n < 45:
		s.request()
	case n < 75:
		s.work()
	case n < 80:
		s.cancelOne()
	case n < 84:
		s.hire()
	case n < 87:
		s.join()
	case n < 91 && len(s.workers) > 0: // killed
		i := s.rand.IntN(len(s.workers))
		s.workers[i].close()
		s.workers = append(s.workers[:i], s.workers[i+1:]...)
	case n < 93 && len(s.clients) > 1:
		s.leave(s.rand.IntN(len(s.clients)))
	case n < 96 && len(s.workers) > 0: // paused, sometimes for too long
		w := s.workers[s.rand.IntN(len(s.workers))]
		w.mute.Store(true)
		w.until = time.Now().Add(time.Duration(s.rand.IntN(5000)) * time.Millisecond)
	case n < 97 && len(s.brokers) > 1:
		s.net.Reset(s.any().name, s.any().name)
	case n < 98 && len(s.brokers) > 1:
		s.cut(s.any().name, s.any().name)
	default:
		s.pass(time.Duration(s.rand.IntN(1000)) * time.Millisecond)
	}
}

// cut ends or hinders a link, in one direction or in both, or lets it be again.
func (s *meshSimulation) cut(from, to string) {
	switch {
	case from == to:
	case s.rand.IntN(3) == 0:
		s.net.Partition(from, to)
	case s.rand.IntN(2) == 0:
		s.net.Fault(from, to, memsock.Fault{Stall: true})
	default:
		s.net.Heal(from, to)
	}
}

func (s *meshSimulation) request() {
	if len(s.clients) == 0 {
		return
	}
	c := s.clients[s.rand.IntN(len(s.clients))]
	s.ids++
	r := &asked{attempts: make(map[uint16]int)}
	for _, f := range []uint8{mdp.FlagOnce, mdp.FlagNoWait, mdp.FlagRestartable} {
		if s.rand.IntN(5) == 0 {
			r.flags |= f
		}
	}
	id := mdp.RequestID{7, 14: byte(s.ids >> 8), 15: byte(s.ids)}
	s.asked[id] = r
	h := c.ask("s", id.String(), flags(r.flags), func(h *mdp.Head) {
		h.ID = id
		if s.rand.IntN(2) == 0 {
			h.Remaining = uint32(1 + s.rand.IntN(2000))
		}
	})
	c.open[h.Token] = id
}

func (s *meshSimulation) cancelOne() {
	c := s.clients[s.rand.IntN(len(s.clients))]
	for token, id := range c.open {
		s.asked[id].cancelled = true
		delete(c.open, token)
		c.cancelRequest(mdp.Head{Token: token, ID: id})
		return
	}
}

func (s *meshSimulation) leave(i int) {
	c := s.clients[i]
	s.hear(c)
	for _, id := range c.open {
		s.asked[id].cancelled = true
	}
	c.close()
	s.clients = append(s.clients[:i], s.clients[i+1:]...)
}

// work lets one worker do something with one request it holds.
func (s *meshSimulation) work() {
	if len(s.workers) == 0 {
		return
	}
	w := s.workers[s.rand.IntN(len(s.workers))]
	if len(w.held) == 0 || time.Now().Before(w.until) {
		return
	}
	i := s.rand.IntN(len(w.held))
	r := w.held[i]
	switch n := s.rand.IntN(10); {
	case n == 0:
		s.begin(w, r)
		w.say(mdp.Partial, r, nil)
		return
	case n == 1 && !w.begun[r]:
		w.say(mdp.Final, r, &mdp.Error{Status: mdp.NotTaken})
	case n == 2:
		s.begin(w, r)
		w.say(mdp.Final, r, &mdp.Error{Status: mdp.AppError, Text: "failed", MayHaveRun: true})
	default:
		s.begin(w, r)
		w.say(mdp.Final, r, nil)
	}
	w.held = append(w.held[:i], w.held[i+1:]...)
}

// begin starts the handler of a request that the worker holds, once.
func (s *meshSimulation) begin(w *simWorker, r *message) {
	if !w.begun[r] {
		w.begun[r] = true
		s.asked[r.Head.ID].runs++
	}
}

// say answers, unless the broker has closed the connection meanwhile.
func (w *simWorker) say(kind mdp.Kind, to *message, err *mdp.Error) {
	cmd := mdp.Command{Kind: kind, Head: mdp.Head{Token: to.Head.Token, ID: to.Head.ID}}
	if err != nil {
		cmd.SetError(err)
	}
	var batch zsock.Batch
	w.write(&batch, cmd, to.body())
	batch.Flush()
}

// observe takes what has come everywhere and verifies the brokers' books.
func (s *meshSimulation) observe() {
	for i := 0; i < len(s.workers); i++ {
		w := s.workers[i]
		if !w.until.IsZero() && time.Now().After(w.until) {
			w.mute.Store(false)
			w.until = time.Time{}
			w.say(mdp.Heartbeat, &message{}, nil)
		}
		select {
		case <-w.closed: // silent for too long
			s.workers = append(s.workers[:i], s.workers[i+1:]...)
			i--
		default:
			s.take(w)
		}
	}
	for _, c := range s.clients {
		s.hear(c)
	}
	for _, b := range s.brokers {
		for _, service := range b.allServices() {
			if err := service.check(); err != nil {
				s.t.Fatalf("broker %s: %v", b.name, err)
			}
		}
	}
}

func (s *meshSimulation) take(w *simWorker) {
	for len(w.got) > 0 {
		switch m := <-w.got; m.Kind {
		case mdp.Request:
			s.asked[m.Head.ID].attempts[m.Head.Attempt]++
			if m.body() != m.Head.ID.String() {
				s.t.Fatalf("request %v came with the body of %s", m.Head.ID, m.body())
			}
			w.held = append(w.held, m)
		case mdp.Cancel: // answered now or later: FINAL frees the place
			for i, r := range w.held {
				if r.Head.Token == m.Head.Token && s.rand.IntN(2) == 0 {
					w.say(mdp.Final, r, &mdp.Error{Status: mdp.Cancelled, MayHaveRun: true})
					w.held = append(w.held[:i], w.held[i+1:]...)
					break
				}
			}
		}
	}
}

// hear takes a client's answers: each must be one it waits for.
func (s *meshSimulation) hear(c *simClient) {
	for len(c.got) > 0 {
		m := <-c.got
		id, open := c.open[m.Head.Token]
		switch {
		case !open && s.asked[m.Head.ID].cancelled: // crossed the CANCEL
			continue
		case !open || id != m.Head.ID:
			s.t.Fatalf("%v for token %d, which is not outstanding", m.Kind, m.Head.Token)
		case m.Kind == mdp.Partial && m.body() == id.String():
			continue
		case m.Kind != mdp.Final:
			s.t.Fatalf("unexpected %v %q", m.Kind, m.frames)
		case m.Head.Status == 0 && m.body() != id.String():
			s.t.Fatalf("request %v was answered with %q", id, m.body())
		}
		delete(c.open, m.Head.Token)
		s.asked[id].outcomes = append(s.asked[id].outcomes, mdp.Status(m.Head.Status))
	}
}

// finish lets honest workers do what is left, and judges the history.
func (s *meshSimulation) finish() {
	for _, w := range s.workers {
		w.mute.Store(false)
		w.until = time.Time{}
	}
	for range 2 {
		s.hire()
	}
	if len(s.brokers) > 1 {
		s.net.Heal("a", "b")
		s.net.Heal("a", "c")
		s.net.Heal("b", "c")
		s.up(s.brokers[0], len(s.brokers)-1)
	}
	for range 200 {
		for _, w := range s.workers {
			for _, r := range w.held {
				s.begin(w, r)
				w.say(mdp.Final, r, nil)
			}
			w.held = nil
		}
		s.pass(50 * time.Millisecond)
		s.observe()
	}
	for _, c := range s.clients {
		if len(c.open) > 0 {
			s.t.Errorf("%d requests without an outcome", len(c.open))
		}
	}
	for id, r := range s.asked {
		if err := r.judge(); err != nil {
			s.t.Errorf("request %v: %v: %+v", id, err, r)
		}
	}
	for _, b := range s.brokers {
		s.empty(b)
	}
}

func (r *asked) judge() error {
	last := uint16(0)
	for attempt := range r.attempts {
		last = max(last, attempt)
	}
	switch {
	case r.cancelled:
	case len(r.outcomes) != 1:
		return fmt.Errorf("%d outcomes", len(r.outcomes))
	}
	switch {
	case last > maxAttempts:
		return fmt.Errorf("attempt %d", last)
	case r.flags&mdp.FlagOnce != 0 && (last > 1 || r.runs > 1):
		return fmt.Errorf("once: attempt %d, %d runs", last, r.runs)
	case r.runs > maxAttempts:
		return fmt.Errorf("%d runs", r.runs)
	case len(r.outcomes) == 1 && r.outcomes[0] == mdp.OK && r.runs == 0:
		return fmt.Errorf("answered without having run")
	}
	return nil
}
