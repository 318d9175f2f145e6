package broker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
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

// wire is one connection: the broker's side of it, and the way to and from the
// peer, which keeps the order and takes its time.
type wire struct {
	conn    conn
	w       *world
	number  int
	latency time.Duration // at most, each way
	there   time.Duration // when the last message to the peer arrives
	back    time.Duration // when the last one to the broker arrives
	flying  int           // messages to the peer
	taken   uint32        // messages to the peer, ever
	unsent  uint32        // of these the last ones, which the end came before
	reads   uint32
	turns   uint32
	closing bool // nothing more is taken for sending
	closed  bool // the broker knows
	deaf    bool // the peer has gone: what arrives there is lost
	refused bool // something that the broker sent was not taken

	arrive func(m *message)   // at the peer's host
	ended  func()             // the broker has closed it
	sent   func(*mdp.Command) // by the broker, to a client
}

// connect opens a connection.
func (w *world) connect(latency time.Duration, arrive func(*message), ended func()) *wire {
	w.number++
	x := &wire{w: w, number: w.number, latency: latency, arrive: arrive, ended: ended}
	x.conn.opened(w.b, x)
	w.wires = append(w.wires, x)
	return x
}

func (x *wire) Reads() uint32         { return x.reads }
func (x *wire) Writes() uint32        { return 0 }
func (x *wire) Turns() uint32         { return x.turns }
func (x *wire) Queued() (int, int)    { return 0, 0 }
func (x *wire) Unsent() int           { return x.flying }
func (x *wire) Precede()              {}
func (x *wire) Peer() zsock.Peer      { return zsock.Peer{Remote: fmt.Sprint("wire ", x.number)} }
func (x *wire) Close(error)           { x.hangUp(0) }
func (x *wire) CloseAfterFlush(error) { x.hangUp(x.there - x.w.now()) }

// SendNumbered is the broker's: what it sends arrives at the peer's host after a while.
func (x *wire) SendNumbered(_ *zsock.Batch, head [][]byte, body zsock.Body) (number uint32, err error) {
	if x.closing {
		return 0, zsock.ErrClosed
	}
	if x.flying > 20 && x.w.chance(20) {
		x.refused = true
		return 0, zsock.ErrHighWater
	}
	m := &message{}
	for _, f := range body.Append(slices.Clone(head)) {
		m.frames = append(m.frames, bytes.Clone(f))
	}
	if err := mdp.Decode(m.frames, mdp.AtEndpoint, &m.Command); err != nil {
		x.w.fail("the broker sent %q: %v", m.frames, err)
		return 0, nil
	}
	if x.sent != nil {
		x.sent(&m.Command)
	}
	x.flying++
	x.taken++
	x.there = max(x.there, x.w.now()+x.w.upTo(x.latency))
	x.w.in(x.there-x.w.now(), func() {
		x.flying--
		if !x.deaf {
			x.arrive(m)
		}
	})
	return x.taken, nil
}

// Unwritten implements transport: of what is under way when a connection ends, some
// was not written.
func (x *wire) Unwritten(number uint32) bool { return x.closed && number > x.taken-x.unsent }

// hangUp is the broker's: the connection ends for both.
func (x *wire) hangUp(after time.Duration) {
	if x.closing {
		return
	}
	x.closing = true
	x.w.in(max(after, 0), func() {
		x.over()
		if !x.deaf {
			x.deaf = true
			x.ended()
		}
	})
}

// over tells the broker that the connection has ended.
func (x *wire) over() {
	x.w.awake(func() {
		if x.closed {
			return
		}
		x.closed, x.closing = true, true
		x.unsent = uint32(x.w.rand.IntN(x.flying + 1))
		x.w.wires = slices.DeleteFunc(x.w.wires, func(y *wire) bool { return x == y })
		var batch zsock.Batch
		x.conn.ended(&batch, errBye)
		x.w.after()
	})
}

// die is the peer's end: killed, its messages under way may be lost with it.
func (x *wire) die(lossy bool) {
	if x.deaf {
		return
	}
	x.deaf = true
	if lossy {
		x.over()
		return
	}
	x.w.in(max(x.back-x.w.now(), 0), x.over)
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

// say is the peer's: a command to the broker.
func (x *wire) say(cmd mdp.Command, body ...string) {
	if x.deaf {
		return
	}
	cmd.Delimited = cmd.Dialect == mdp.V01
	frames := mdp.Append(nil, make([]byte, mdp.MaxHead), &cmd)
	for i, f := range frames {
		frames[i] = bytes.Clone(f)
	}
	for _, f := range body {
		frames = append(frames, []byte(f))
	}
	x.back = max(x.back, x.w.now()+x.w.upTo(x.latency))
	x.w.in(x.back-x.w.now(), func() { x.w.awake(func() { x.take(frames) }) })
}

func (x *wire) take(frames [][]byte) {
	if x.closed {
		return
	}
	x.reads++
	var batch zsock.Batch
	x.conn.message(&batch, zsock.NewMsg(frames...))
	x.w.after()
}
