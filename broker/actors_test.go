package broker

import (
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// actor is a worker of the simulation. It behaves as the library does: it looks at
// all that has arrived before it starts a handler.
type actor struct {
	s        *simulation
	x        *wire
	number   int
	kind     mdp.Dialect
	credit   int
	stubborn bool // its handlers ignore CANCEL
	mum      bool // it answers no probes
	asleep   time.Duration
	heard    time.Duration // when it last read something
	inbox    []*message
	running  []*job
	leaving  bool
	gone     bool
}

// job is a request at an actor.
type job struct {
	m       *message
	h       *history
	started bool
	over    bool
}

func (s *simulation) hire() {
	if len(s.workers) >= 6 || s.b.draining.Load() {
		return
	}
	a := &actor{s: s, number: s.number + 1, kind: mdp.Native, credit: 1 + s.rand.IntN(3), stubborn: s.chance(30) && !s.calm, mum: s.chance(15)}
	if s.chance(30) && !s.calm {
		a.kind, a.credit = []mdp.Dialect{mdp.V01, mdp.V02}[s.rand.IntN(2)], 1
	}
	a.x = s.connect(s.upTo(80*time.Millisecond), a.arrive, a.ended)
	a.x.sent = a.told
	a.heard = s.now()
	s.workers = append(s.workers, a)
	a.offer()
	a.beat()
}

// pick draws one of the workers, who may be a dummy when there are none.
func (s *simulation) pick() *actor {
	if len(s.workers) == 0 {
		return &actor{s: s, gone: true}
	}
	return s.workers[s.rand.IntN(len(s.workers))]
}

// offer says READY or HELLO.
func (a *actor) offer() {
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Ready, Dialect: a.kind, Service: []byte("s")}
	if a.kind == mdp.Native {
		cmd.Kind, cmd.Head.Status = mdp.Hello, uint16(a.credit)
		cmd.Map = mdp.EncodeMap(&mdp.HelloMap{Instance: "w", Concurrency: a.credit, Reads: true})
	}
	a.x.say(cmd)
}

// beat says that it lives, unless it works inside its receive loop.
func (a *actor) beat() {
	if a.gone {
		return
	}
	if a.awake() && a.kind == mdp.Native && a.s.now()-max(a.heard, a.asleep) > livenessMisses*time.Second {
		a.die(false) // a broker that says nothing is gone
		return
	}
	if a.awake() && (a.kind == mdp.Native || len(a.running) == 0) {
		a.x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: a.kind})
	}
	a.s.in(time.Second, a.beat)
}

func (a *actor) awake() bool { return a.s.now() >= a.asleep }

// pause stops the process as SIGSTOP does.
func (a *actor) pause(d time.Duration) {
	if a.gone {
		return
	}
	a.asleep = a.s.now() + d
	a.s.in(d, a.read)
}

func (a *actor) die(lossy bool) {
	if a.gone {
		return
	}
	a.ended()
	a.x.die(lossy)
}

// halve lets its connection be half open.
func (a *actor) halve() {
	if !a.gone && !a.x.mute && !a.x.numb {
		a.x.halve(a.kind == mdp.Native)
		a.s.halves++
	}
}

// leave says DRAIN, and BYE when all is answered.
func (a *actor) leave() {
	if a.gone || !a.awake() || a.kind != mdp.Native {
		return
	}
	a.leaving = true
	a.x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Drain, Dialect: a.kind})
	a.bye()
}

func (a *actor) bye() {
	if a.leaving && !a.gone && len(a.running)+len(a.inbox) == 0 {
		a.x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Bye, Dialect: a.kind})
		a.ended()
		a.x.die(false)
	}
}

func (a *actor) recredit() {
	if a.gone || !a.awake() || a.kind != mdp.Native || a.leaving {
		return
	}
	a.credit += a.s.rand.IntN(3)
	a.x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Credit, Dialect: a.kind, Head: mdp.Head{Status: uint16(a.credit)}})
}

// ended forgets the actor. In calm times another one takes its place.
func (a *actor) ended() {
	if a.gone {
		return
	}
	a.gone = true
	for _, j := range a.running {
		j.over = true
	}
	a.s.workers = slices.DeleteFunc(a.s.workers, func(b *actor) bool { return a == b })
	if a.s.calm {
		a.s.hire()
	}
}

// told is called when the broker sends something.
func (a *actor) told(m *message) {
	if m.Kind == mdp.Request {
		a.x.given = a.s.now()
		if h := a.s.histories[m.body()]; h != nil { // else a.take complains
			h.given++
		}
	}
}

// arrive is called when a message has come to the host.
func (a *actor) arrive(m *message) {
	if a.gone {
		return
	}
	a.inbox = append(a.inbox, m)
	a.s.in(0, a.read) // with what comes at the same moment
}

// read looks at all that has arrived, then starts handlers.
func (a *actor) read() {
	if a.gone || !a.awake() || len(a.inbox) == 0 {
		return
	}
	if a.kind != mdp.Native && len(a.running) > 0 && a.running[0].started {
		return // busy: it reads when it is done
	}
	inbox := a.inbox
	a.inbox, a.heard = nil, a.s.now()
	for _, m := range inbox {
		switch m.Kind {
		case mdp.Request:
			a.take(m)
		case mdp.Cancel:
			a.cancel(m.Head.Token)
		case mdp.Heartbeat:
			if m.Head.Token != 0 && !a.mum {
				a.x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: a.kind, Head: mdp.Head{Token: m.Head.Token}})
			}
		case mdp.Disconnect:
			a.offer()
		case mdp.Bye:
			a.die(false)
			return
		}
	}
	for _, j := range slices.Clone(a.running) {
		if !j.started {
			a.begin(j)
		}
	}
}

func (a *actor) take(m *message) {
	h := a.s.histories[m.body()]
	if h == nil {
		a.s.fail("a worker got %q, which nobody sent", m.body())
		return
	}
	if len(a.running) >= a.credit {
		a.s.fail("a worker of concurrency %d got one more", a.credit)
	}
	if a.kind == mdp.Native && !h.foreign() && m.Head.ID != h.id {
		a.s.fail("a worker got %q as %v", m.body(), m.Head.ID)
	}
	a.running = append(a.running, &job{m: m, h: h})
}

func (a *actor) cancel(token uint64) {
	for _, j := range a.running {
		switch {
		case j.m.Head.Token != token:
		case !j.started:
			a.final(j, mdp.Errorf(mdp.NotTaken, "not started"))
		case !a.stubborn:
			a.final(j, mdp.Errorf(mdp.Cancelled, "cancelled"))
		default:
			continue
		}
		if j.m.Head.Token == token {
			return
		}
	}
}

// begin starts a handler.
func (a *actor) begin(j *job) {
	s := a.s
	if s.chance(3) && a.kind == mdp.Native {
		a.final(j, mdp.Errorf(mdp.NotTaken, "not in the mood"))
		return
	}
	j.started = true
	attempt := j.m.Head.Attempt
	if a.kind == mdp.Native && attempt < j.h.answeredBy && s.now() > j.h.answered+a.x.latency && !a.x.refused && !a.x.numb {
		s.fail("attempt %d of %s is started after attempt %d was answered and the CANCEL has come", attempt, j.h.body, j.h.answeredBy)
	}
	if a.kind == mdp.Native {
		j.h.starts[attempt] = append(j.h.starts[attempt], a.number)
	} else { // it is not told the attempt
		j.h.mute++
	}
	took := s.upTo(60 * time.Millisecond)
	switch {
	case s.chance(3):
		took = s.upTo(5 * time.Second)
	case s.chance(15):
		took = s.upTo(time.Second)
	}
	if s.chance(2) && !s.calm {
		s.in(took, func() { a.die(true) }) // poison
		return
	}
	if s.chance(10) && a.kind != mdp.V01 {
		s.in(took/2, func() { a.partial(j) })
	}
	s.in(took, func() { a.finish(j) })
}

func (a *actor) partial(j *job) {
	if !j.over && a.awake() {
		j.h.begun = true
		a.x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Partial, Dialect: a.kind, Address: j.m.Address, Head: mdp.Head{Token: j.m.Head.Token, ID: j.m.Head.ID}}, j.h.body+"+")
	}
}

func (a *actor) finish(j *job) {
	switch {
	case j.over:
	case !a.awake():
		a.s.in(a.asleep-a.s.now(), func() { a.finish(j) })
	case a.s.chance(5) && a.kind == mdp.Native:
		a.final(j, &mdp.Error{Status: mdp.AppError, Text: "failed", MayHaveRun: true})
	default:
		a.final(j, nil)
	}
}

// final answers.
func (a *actor) final(j *job, err *mdp.Error) {
	j.over = true
	a.running = slices.DeleteFunc(a.running, func(k *job) bool { return k == j })
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Final, Dialect: a.kind, Address: j.m.Address, Head: mdp.Head{Token: j.m.Head.Token, ID: j.m.Head.ID}}
	if err != nil {
		if err.Status == mdp.NotTaken {
			j.h.refused++
		}
		j.h.erred = j.h.erred || err.Status == mdp.AppError
		cmd.SetError(err)
		a.x.say(cmd)
	} else {
		a.x.say(cmd, j.h.body)
	}
	a.bye()
	a.s.in(0, a.read)
}
