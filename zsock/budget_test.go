package zsock

import (
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

const mib = 1 << 20

// begin sends the first part of a message of n octets. It does not matter whether the
// peer still listens.
func (p *rawPeer) begin(n, part int) {
	_, _ = p.Write(append(announce(0, uint64(n)), make([]byte, part)...))
}

// A message that comes on passes beside halves that lie about, however many: these end.
func TestHalvesMakeRoom(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
		h := newRecorder()
		budget := NewBudget(8 * mib)
		l := listen(t, tr, Config{Unfinished: budget}, h)
		const halves = 32
		for range halves {
			open(t, tr, l, "DEALER", 0).begin(2*mib, mib+mib/4)
			synctest.Wait()
			time.Sleep(time.Second) // on the bubble's clock, as all times here
		}
		if used := budget.Used(); used < 6*mib || used > 8*mib {
			t.Errorf("%d octets are counted beside halves", used)
		}
		p := open(t, tr, l, "DEALER", 0)
		for _, size := range []int{7 * mib, 7 * mib, 20 * mib} {
			whole := longFrame(0, strings.Repeat("x", size))
			for ; len(whole) > 0; whole = whole[min(mib, len(whole)):] {
				p.write(whole[:min(mib, len(whole))])
				time.Sleep(10 * time.Millisecond)
			}
			if got := receive(t, h.messages); len(got.frames[0]) != size {
				t.Errorf("%d octets of %d arrived", len(got.frames[0]), size)
			}
		}
		if got := l.Counters(); got.Closed["unfinished"] != halves || got.Open != 1 {
			t.Errorf("counters %+v", got)
		}
		if used := budget.Used(); used != 0 {
			t.Errorf("%d octets are counted when all is complete", used)
		}
	})
}

// Whoever begins anew all the time does not outlast a message that takes its time: at
// five sixths of its rate, they hold more for less.
func TestBeginnersDoNotWin(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
		h := newRecorder()
		const size, others = 8 * mib, 4
		l := listen(t, tr, Config{Unfinished: NewBudget((others + 1) * (size + mib))}, h)
		p := open(t, tr, l, "DEALER", 0)
		whole := longFrame(0, strings.Repeat("x", size))
		for ; len(whole) > 0; whole = whole[min(mib*3/2, len(whole)):] {
			p.write(whole[:min(mib*3/2, len(whole))])
			for range 2 {
				open(t, tr, l, "DEALER", 0).begin(size, mib+mib/4)
				time.Sleep(5 * time.Millisecond)
			}
		}
		receive(t, h.messages)
		if n := l.Counters().Closed["unfinished"]; n < 2*5-others {
			t.Errorf("%d were given up", n)
		}
	})
}

// Who is slower than all others is the one that ends, also when it comes last.
func TestTheSlowestEnds(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
		h := newRecorder()
		l := listen(t, tr, Config{Unfinished: NewBudget(8 * mib), ProgressTimeout: time.Hour}, h)
		slow := open(t, tr, l, "DEALER", 0)
		slow.begin(4*mib, 100)
		synctest.Wait()
		time.Sleep(10 * time.Second)
		for range 2 {
			open(t, tr, l, "DEALER", 0).begin(3*mib, 2*mib)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if n := l.Counters().Open; n != 3 {
			t.Fatalf("%d connections are open", n)
		}
		_, _ = slow.Write(make([]byte, 2*mib))
		if err := receive(t, h.closed); !errors.Is(err, ErrUnfinished) {
			t.Errorf("closed for %v", err)
		}
		slow.ended()
		synctest.Wait() // the listener counts it once it has let go of it
		if n := l.Counters().Open; n != 2 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// The bound holds over every transport, listener and security, and what it is paid
// for comes back however a message ends.
func TestBudgetIsShared(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		budget := NewBudget(8 * mib)
		var listeners []*Listener
		for range 2 {
			listeners = append(listeners, listen(t, tr, Config{Unfinished: budget}, newRecorder()))
		}
		const peers, room = 10, 3 // 2 MiB each, and a little
		var all []net.Conn
		for i := range peers {
			p := open(t, tr, listeners[i%2], "DEALER", 0)
			all = append(all, p)
			p.begin(2*mib, mib+mib/2)
		}
		given := func() (n uint64) {
			for _, l := range listeners {
				n += l.Counters().Closed["unfinished"]
			}
			return n
		}
		waitFor(t, func() bool { return given() == peers-room && budget.Used() > room*2*mib })
		if used := budget.Used(); used > 8*mib {
			t.Errorf("%d octets are counted", used)
		}
		for _, p := range all {
			_ = p.Close()
		}
		waitFor(t, func() bool { return listeners[0].Counters().Open+listeners[1].Counters().Open == 0 })
		if used := budget.Used(); used != 0 {
			t.Errorf("%d octets are counted when all have gone", used)
		}
		if n := given(); n != peers-room {
			t.Errorf("%d were given up", n)
		}
	})
}

// Sealed messages are counted as they are opened.
func TestSealedBudget(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		budget := NewBudget(8 * mib)
		server, client := newRecorder(), newRecorder()
		inside := make(chan int64, 1)
		server.then = func(*Batch, *Conn, *Msg) { inside <- budget.Used() }
		l := listen(t, tr, Config{mechanism: newXOR, Unfinished: budget}, server)
		c := dial(t, tr, l, Config{mechanism: newXOR, HighWaterBytes: 64 * mib}, client)
		half := dial(t, tr, l, Config{mechanism: newXOR, HighWaterBytes: 64 * mib}, client)
		// Without its last frame a message is a half.
		var b Batch
		half.mu.Lock()
		ch := half.chunk()
		for range 4 {
			before := len(ch.buf)
			if err := half.sealFrame(ch, flagMore, make([]byte, mib)); err != nil {
				t.Error(err)
			}
			half.octets += len(ch.buf) - before
		}
		b.mark(half)
		half.mu.Unlock()
		b.Flush()
		waitFor(t, func() bool { return budget.Used() >= 4*mib })
		_ = c.Send(&b, octets([]string{strings.Repeat("x", mib), strings.Repeat("y", mib)}), Body{})
		b.Flush()
		if used := receive(t, inside); used < 4*mib || used > 6*mib {
			t.Errorf("%d octets are counted", used)
		}
		half.Close(nil)
		waitFor(t, func() bool { return budget.Used() == 0 })
	})
}

// A large message of many frames is not copied for each of them.
func TestGrowthByFrames(t *testing.T) {
	for _, tr := range transports() {
		done := make(chan int, 1)
		h := newRecorder()
		h.then = func(_ *Batch, _ *Conn, m *Msg) { done <- m.Size() }
		p := open(t, tr, listen(t, tr, Config{}, h), "DEALER", 0)
		const frames, size = 512, 32 << 10
		wire := []byte(strings.Repeat(string(longFrame(1, strings.Repeat("x", size))), frames-1))
		wire = append(wire, longFrame(0, strings.Repeat("x", size))...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		go func() { _, _ = p.Write(wire) }()
		if n := receive(t, done); n != frames*size {
			t.Errorf("%s: %d octets arrived", tr.name, n)
		}
		runtime.ReadMemStats(&after)
		took := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d MiB for %d", tr.name, took/mib, len(wire)/mib)
		if took > 8*frames*size {
			t.Errorf("%s: a message of %d frames of %d octets allocated %d octets", tr.name, frames, size, took)
		}
	}
}
