package broker

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// wire is one connection: the broker's side of it, and the way to and from the
// peer, which takes its time. It keeps the order, since TCP does: what overtakes each
// other is what goes by different connections, and never what goes by one. Nor is
// anything lost out of the middle, but everything from some moment on: with the end of
// the connection, or without one that anybody would hear of (halve).
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
	abrupt  bool // ended before the peer has read all that the broker had sent

	numb, mute bool // half open: what is sent to the peer, or to the broker, is swallowed
	halfAt     time.Duration
	given      time.Duration // when a worker was last given a request
	stalled    time.Duration // until then the peer reads nothing
	kept       []*message    // what waits for that

	arrive func(*message) // at the peer's host
	ended  func()         // the broker has closed it
	sent   func(*message) // by the broker
	lost   func(*message) // the broker would have sent it, but was refused
	read   func(body string)
}

// connect opens a connection.
func (w *world) connect(latency time.Duration, arrive func(*message), ended func()) *wire {
	w.number++
	x := &wire{w: w, number: w.number, latency: latency, arrive: arrive, ended: ended}
	x.sent, x.lost, x.read = func(*message) {}, func(*message) {}, func(string) {}
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
	m := &message{}
	for _, f := range body.Append(slices.Clone(head)) {
		m.frames = append(m.frames, bytes.Clone(f))
	}
	if err := mdp.Decode(m.frames, mdp.AtEndpoint, &m.Command); err != nil {
		x.w.fail("the broker sent %q: %v", m.frames, err)
		return 0, nil
	}
	if x.flying > 20 && x.w.chance(20) {
		x.refused = true
		x.lost(m)
		return 0, zsock.ErrHighWater
	}
	x.sent(m)
	x.flying++
	x.taken++
	x.there = max(x.there, x.w.now()+x.w.upTo(x.latency))
	x.w.in(x.there-x.w.now(), func() { x.land(m) })
	return x.taken, nil
}

// land is called when a message has come to the peer's host.
func (x *wire) land(m *message) {
	switch {
	case x.deaf || x.numb:
		x.flying--
	case x.w.now() < x.stalled || len(x.kept) > 0:
		x.kept = append(x.kept, m)
	default:
		x.flying--
		x.arrive(m)
	}
}

// stall lets the peer read nothing for a while: what the broker sends piles up.
func (x *wire) stall(d time.Duration) {
	x.stalled = x.w.now() + d
	x.w.in(d, func() {
		for x.w.now() >= x.stalled && len(x.kept) > 0 {
			m := x.kept[0]
			x.kept = x.kept[1:]
			x.flying--
			if !x.deaf && !x.numb {
				x.arrive(m)
			}
		}
	})
}

// halve makes the connection half open, at random in one direction or in both: from now
// on what is sent is swallowed without a word, its end included. Whoever hears nothing
// must find out by himself. Clients and workers of MDP have nothing to find out by while
// they wait or work: there it is as if the host had gone, which the kernel's keepalive
// tells both of.
func (x *wire) halve(native bool) {
	n := 1 + x.w.rand.IntN(3)
	x.numb, x.mute, x.halfAt = x.numb || n&1 != 0, x.mute || n&2 != 0, x.w.now()
	if !native {
		x.w.in(keepalive, func() {
			x.over()
			x.bye()
		})
	}
}

// keepalive is when the kernel takes a connection for dead whose host says nothing (zsock/network.go).
const keepalive = 8 * time.Second

// bye tells the peer that the connection has ended.
func (x *wire) bye() {
	if !x.deaf {
		x.deaf = true
		x.ended()
	}
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
		x.abrupt = x.abrupt || x.flying > 0 || x.numb || x.mute
		x.over()
		if !x.numb {
			x.bye()
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
	switch {
	case x.deaf:
	case x.mute: // nobody tells the broker
	case lossy:
		x.over()
	default:
		x.w.in(max(x.back-x.w.now(), 0), func() {
			if !x.mute {
				x.over()
			}
		})
	}
	x.deaf = true
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
	if x.closed || x.mute {
		return
	}
	x.reads++
	x.read(string(frames[len(frames)-1]))
	var batch zsock.Batch
	x.conn.message(&batch, zsock.NewMsg(frames...))
	x.w.after()
}
