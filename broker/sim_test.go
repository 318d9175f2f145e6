package broker

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// TestSimulation runs thousands of histories of one broker in which clients and
// workers of all kinds are killed, paused and slow, and connections end or are half open,
// and judges each by the rules of history_test.go and simulation.look. Messages overtake
// each other and are lost as they are over TCP (wire). A broker that is started again is
// another one, to which nothing of the history before is left: that is for test/faults,
// with processes. One seed is one history: BROKER_SEED=n repeats it,
// BROKER_SEEDS=n runs that many from one that changes with every run; without, as many
// of 3,000 as 30 s allow.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, count, patience := uint64(time.Now().UnixMilli()), uint64(3_000), 30*time.Second
	if testing.Short() {
		count = 200
	}
	if n, err := strconv.ParseUint(os.Getenv("BROKER_SEEDS"), 10, 64); err == nil {
		count, patience = n, time.Hour
	}
	if n, err := strconv.ParseUint(os.Getenv("BROKER_SEED"), 10, 64); err == nil {
		first, count = n, 1
	}
	const lanes = 4
	var sum simTotals
	played, began := 0, time.Now()
	var mu sync.Mutex
	t.Run("seeds", func(t *testing.T) {
		for lane := range uint64(lanes) {
			t.Run(fmt.Sprint("lane ", lane), func(t *testing.T) {
				t.Parallel()
				for seed := first + lane; seed < first+count && !t.Failed() && time.Since(began) < patience; seed += lanes {
					synctest.Test(t, func(t *testing.T) {
						s := newSimulation(seed)
						if err := s.play(); err != nil {
							t.Fatalf("BROKER_SEED=%d: %v", seed, err)
						}
						mu.Lock()
						defer mu.Unlock()
						sum.add(s)
						played++
					})
				}
			})
		}
	})
	t.Logf("%d histories from seed %d on: %+v", played, first, sum)
	if played >= 500 && !t.Failed() && !sum.all() {
		t.Error("something never happened in any of them: they prove nothing of it")
	}
}

// simTotals tell what the histories were about.
type simTotals struct {
	Requests, Answered, Redelivered, Late, Suspicions, Expired, Poisoned, Pauses, Drained uint64
	Halves, Unread, Foreign, ForeignErrors, ForeignUnanswered                             uint64
}

// all tells whether everything happened at least once.
func (t *simTotals) all() bool {
	return !slices.Contains([]uint64{t.Late, t.Suspicions, t.Redelivered, t.Expired, t.Poisoned, t.Pauses, t.Drained,
		t.Halves, t.Unread, t.Foreign, t.ForeignErrors, t.ForeignUnanswered}, 0)
}

func (t *simTotals) add(s *simulation) {
	c := s.b.Counters()
	t.Requests += c["requests"]
	t.Answered += c["answered"]
	t.Redelivered += c["redelivered"]
	t.Late += c["late"]
	t.Suspicions += c["suspicions"]
	t.Expired += c["expired"]
	t.Poisoned += uint64(len(s.b.Poison()))
	t.Pauses += c["pauses"]
	if s.b.draining.Load() {
		t.Drained++
	}
	t.Halves += uint64(s.halves)
	t.Unread += c["answers_dropped"]
	t.ForeignUnanswered += c["foreign_unanswered"]
	for _, c := range s.foreign {
		t.Foreign += uint64(len(c.waiting))
		t.ForeignErrors += uint64(c.errors)
	}
}

// simulation is a world with clients and workers of one service.
type simulation struct {
	*world
	workers   []*actor
	clients   []*asker
	foreign   []*asker            // all clients of MDP that ever were
	histories map[string]*history // by the request's body
	order     []*history
	calm      bool // the end: nobody dies any more
	farewell  bool // the broker has said goodbye
	halves    int  // connections that were half open
	ids       int
}

func newSimulation(seed uint64) *simulation {
	s := &simulation{world: newWorld(seed), histories: make(map[string]*history)}
	s.after = s.look
	return s
}

// play is one history: chaos, then calm until all is settled.
func (s *simulation) play() error {
	for range 1 + s.rand.IntN(4) {
		s.hire()
	}
	for range 1 + s.rand.IntN(4) {
		s.join("")
	}
	for range 30 + s.rand.IntN(60) {
		s.step()
		s.run(s.upTo(120 * time.Millisecond))
	}
	s.calm = true
	for _, a := range s.workers {
		a.stubborn = false
	}
	if s.chance(20) {
		return s.drain()
	}
	s.hire()
	for quiet := 0; quiet < 3 && s.failed == nil && s.now() < 5*time.Minute; {
		s.run(500 * time.Millisecond)
		if quiet++; s.now() < s.asleep || !s.settled() {
			quiet = 0
		}
	}
	if s.failed == nil {
		s.judge()
	}
	return s.failed
}

// drain ends the broker in order: all that somebody holds is answered before it says
// goodbye, and so is all that nobody took (asker.told).
func (s *simulation) drain() error {
	s.b.draining.Store(true)
	s.awake(func() {
		s.b.announceDrain(new(zsock.Batch), s.conns())
		s.after()
	})
	for done := false; !done && s.failed == nil; {
		s.run(500 * time.Millisecond)
		select {
		case <-s.b.drained:
			done = true
		default:
			if s.now() > 5*time.Minute {
				s.fail("the drain does not end")
			}
		}
	}
	for _, service := range s.b.services {
		if n := service.table.live - service.queued(); n > 0 {
			s.fail("the drain ends while %d requests are held", n)
		}
	}
	s.b.giveUp(new(zsock.Batch))
	s.farewell = true
	for _, c := range s.conns() {
		c.sayGoodbye(new(zsock.Batch))
	}
	s.run(time.Second)
	if len(s.wires) > 0 {
		s.fail("%d connections outlive the drain", len(s.wires))
	}
	for s.waitedFor() && s.failed == nil && s.now() < 5*time.Minute { // by those who do not hear of it
		s.run(500 * time.Millisecond)
	}
	if s.failed == nil {
		s.judge()
	}
	return s.failed
}

// step does one random thing to somebody.
func (s *simulation) step() {
	switch n := s.rand.IntN(100); {
	case n < 60:
		for range 1 + s.rand.IntN(3) {
			s.ask()
		}
	case n < 64:
		s.hire()
	case n < 67:
		s.join("")
	case n < 75:
		s.pick().pause(s.upTo(5 * time.Second))
	case n < 80:
		s.pick().die(s.chance(50))
	case n < 83:
		s.pick().leave()
	case n < 85:
		s.pick().recredit()
	case n < 90:
		s.cancel()
	case n < 94:
		s.vanish()
	case n < 95: // the broker's process is stopped
		s.asleep = max(s.asleep, s.now()+s.upTo(5*time.Second))
	case n < 96:
		s.pick().halve()
	case n < 97:
		s.anyClient().halve()
	case n < 99:
		s.anyClient().pause(s.upTo(5 * time.Second))
	}
}

// look is what holds after everything the broker does: its books agree, no request
// waits while somebody could take it, and silence is noticed.
func (s *simulation) look() {
	for _, x := range s.wires {
		x.look(s)
	}
	for _, service := range s.b.services {
		if err := service.check(); err != nil {
			s.fail("%v", err)
		}
		for _, r := range service.waiting() {
			for w := service.workers.first; w != nil; w = w.all.next {
				if w.fits(r) {
					s.fail("request %v waits beside an idle worker", r.id)
				}
			}
		}
	}
}

// look checks that who has not been heard for three heartbeats and one more has nothing
// left that somebody waits for (row 11 of the faults). Silence counts from when the broker
// could listen, and what it has given could be heard.
func (x *wire) look(s *simulation) {
	since := max(x.halfAt, x.given, s.asleep+time.Second)
	if !x.mute || x.closing || s.now()-since <= (livenessMisses+1)*time.Second {
		return
	}
	w := x.conn.worker.Load()
	switch {
	case w == nil && x.conn.client.Load() != nil && x.conn.outstandingCount() > 0:
		s.fail("a client unheard for %v has requests", s.now()-x.halfAt)
	case w == nil || w.dialect != mdp.Native:
	case slices.ContainsFunc(w.held, func(h held) bool { return h.r != nil }):
		s.fail("a worker unheard for %v holds requests", s.now()-x.halfAt)
	case w.room > 0:
		s.fail("a worker unheard for %v is in rotation", s.now()-x.halfAt)
	}
}

// fits tells whether a worker could be given the request now.
func (w *worker) fits(r *request) bool {
	switch {
	case w.gone, w.drained, w.suspect, w.stuck:
		return false
	case r.guest() && w.local, r.moved && w.has(r):
		return false
	}
	return len(w.held) < w.credit
}

// settled tells whether nothing is left to wait for.
func (s *simulation) settled() bool {
	for _, service := range s.b.services {
		for w := service.workers.first; w != nil; w = w.all.next {
			if len(w.held) > 0 && !w.conn.z.(*wire).mute {
				return false // its late answer is to come
			}
		}
		if service.table.live > 0 {
			return false
		}
	}
	for _, x := range s.wires {
		if s.now() < x.stalled {
			return false
		}
	}
	return !s.waitedFor()
}

// waitedFor tells whether any native client wants an answer still.
func (s *simulation) waitedFor() bool {
	return slices.ContainsFunc(s.clients, func(c *asker) bool { return len(c.missing) > 0 || c.waits() })
}
