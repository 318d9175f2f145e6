package broker

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// world is a broker without goroutines and sockets: its ticks, and what peers send it,
// are entries of an agenda, so that one seed is one history. Time is the bubble's.
type world struct {
	rand   *rand.Rand
	b      *Broker
	ticks  ticks
	agenda agenda
	seq    uint64
	start  time.Time
	wires  []*wire // that the broker has open, in the order they came
	number int     // of wires so far
	asleep time.Duration
	failed error
	after  func() // runs when the broker has done something
}

// entry is something that happens at a time.
type entry struct {
	at  time.Duration
	seq uint64
	do  func()
}

// agenda is a heap: the soonest entry first. It is typed, since it is what takes
// most of a history's time.
type agenda []entry

func (a agenda) before(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}

func (a *agenda) push(e entry) {
	*a = append(*a, e)
	h := *a
	for i := len(h) - 1; i > 0 && h.before(i, (i-1)/2); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func (a *agenda) pop() entry {
	h := *a
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], entry{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h.before(child, least) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*a = h
	return first
}

func newWorld(seed uint64) *world {
	b, err := New(Config{Name: "b", Listen: []string{"tcp://b:1"}})
	if err != nil {
		panic(err)
	}
	b.name = "b"
	w := &world{rand: rand.New(rand.NewPCG(seed, 2)), b: b, start: time.Now(), after: func() {}}
	w.ticks = ticks{b: b, last: b.now(), conns: w.conns}
	w.in(wheelTick, w.tick)
	return w
}

func (w *world) now() time.Duration { return time.Since(w.start) }

// in puts something on the agenda.
func (w *world) in(d time.Duration, do func()) {
	w.seq++
	w.agenda.push(entry{w.now() + d, w.seq, do})
}

// run does what is on the agenda, for a time.
func (w *world) run(d time.Duration) {
	end := w.now() + d
	for w.failed == nil && w.agenda[0].at <= end {
		e := w.agenda.pop()
		w.sleepUntil(e.at)
		e.do()
	}
	w.sleepUntil(end)
}

func (w *world) sleepUntil(at time.Duration) {
	if wait := at - w.now(); wait > 0 {
		time.Sleep(wait) // the bubble's time: nothing waits
	}
}

// fail ends the run: the first violation counts.
func (w *world) fail(format string, args ...any) {
	if w.failed == nil {
		w.failed = fmt.Errorf("after %v: "+format, append([]any{w.now()}, args...)...)
	}
}

// chance is true with the given per cent.
func (w *world) chance(percent int) bool { return w.rand.IntN(100) < percent }

// upTo draws a time.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(d) + 1))
}

// tick is the broker's ticker. While the broker is paused, it is not.
func (w *world) tick() {
	if wait := w.asleep - w.now(); wait > 0 {
		w.in(wait, w.tick)
		return
	}
	w.ticks.step(w.b.now())
	w.after()
	w.in(wheelTick, w.tick)
}

func (w *world) conns() []*conn {
	out := make([]*conn, 0, len(w.wires))
	for _, x := range w.wires {
		out = append(out, &x.conn)
	}
	return out
}

// awake does something when the broker is not paused: it comes before or behind the tick
// that notices the pause.
func (w *world) awake(do func()) {
	if wait := w.asleep - w.now(); wait > 0 {
		w.in(wait, do)
		return
	}
	do()
}
