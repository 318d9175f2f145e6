package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Whoever waits for what becomes of a request is told, also when it makes no sense.
func TestSenselessRequestsAreAnswered(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		h := c.ask("", "x") // no service
		c.failed(h, mdp.BadRequest, false)
		head := mdp.Append(nil, make([]byte, mdp.MaxHead), &mdp.Command{Role: mdp.Client, Kind: mdp.Request, Dialect: mdp.Native,
			Service: []byte("s"), Head: mdp.Head{Token: 77, ID: mdp.RequestID{7}}, Map: []byte{0x80}})
		c.raw(string(head[0])) // it says that a map follows, and none does
		c.failed(mdp.Head{Token: 77, ID: mdp.RequestID{7}}, mdp.BadRequest, false)
		head = mdp.Append(nil, make([]byte, mdp.MaxHead), &mdp.Command{Role: mdp.Client, Kind: mdp.Attach, Dialect: mdp.Native,
			Head: mdp.Head{Token: 78, ID: mdp.RequestID{7}}, Map: []byte{0x80}})
		c.raw(string(head[0]))
		c.failed(mdp.Head{Token: 78, ID: mdp.RequestID{7}}, mdp.BadRequest, false)
		m.wantCount(b, "malformed", 3)
		c.alive()
		late := m.dial(b, "late", mdp.Client, mdp.Native)
		head = mdp.Append(nil, make([]byte, mdp.MaxHead), &mdp.Command{Role: mdp.Client, Kind: mdp.Hello, Dialect: mdp.Native, Map: []byte{0x80}})
		late.raw(string(head[0]))
		if w := late.expect(mdp.Welcome); mdp.Status(w.Head.Status) != mdp.BadRequest {
			t.Errorf("welcomed with %v", mdp.Status(w.Head.Status))
		}
		late.gone()
		m.empty(b)
	})
}

// Without a HELLO nobody could fetch the answer later.
func TestDetachedNeedsHello(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.dial(b, "c", mdp.Client, mdp.Native)
		c.failed(c.ask("s", "x", flags(mdp.FlagDetached)), mdp.BadRequest, false)
		m.empty(b)
	})
}

// An answer that cannot be read is the end of its request, not of the worker.
func TestUnreadableAnswer(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		w.refuse(r, &mdp.Error{Status: mdp.AppError, Text: strings.Repeat("x", mdp.MaxText)})
		c.failed(h, mdp.AppError, true)
		h = c.ask("s", "x")
		r = w.take()
		cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Final, Dialect: mdp.Native, Map: make([]byte, mdp.MaxMap+1),
			Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID, Status: uint16(mdp.AppError)}}
		w.send(cmd)
		c.failed(h, mdp.Internal, true)
		w.answer(w2(m, c, w), "y")
		c.expect(mdp.Final)
		m.empty(b)
	})
}

// An answer of which a part cannot be read has a hole in it: its request fails, and
// the worker keeps the place until its FINAL.
func TestUnreadablePart(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		w.send(mdp.Command{Role: mdp.Worker, Kind: mdp.Partial, Dialect: mdp.Native, Map: make([]byte, mdp.MaxMap+1),
			Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID}})
		c.failed(h, mdp.Internal, true)
		w.expect(mdp.Cancel)
		c.ask("s", "y")
		w.quiet()
		w.answer(r, "end")
		w.take()
		c.quiet()
	})
}

// w2 asks once more, which shows that the worker has its place back.
func w2(m *mesh, c, w *peer) *message {
	m.t.Helper()
	c.ask("s", "y")
	return w.take()
}

// Who misspells the scope must not be offered to all brokers.
func TestScopeIsKnownOrRefused(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.dial(b, "worker", mdp.Worker, mdp.Native)
		w.send(mdp.Command{Kind: mdp.Hello, Service: []byte("s"), Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "w", Scope: "locla"})})
		if e, _ := w.expect(mdp.Welcome).err().(*mdp.Error); e == nil || e.Status != mdp.BadRequest || !strings.Contains(e.Text, `"locla"`) {
			t.Errorf("refused with %v", e)
		}
		w.gone()
	})
}

// A worker is told of its own wish, as if each request had the flag.
func TestWorkersWishIsInItsRequests(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1, func(h *mdp.HelloMap) { h.Once = true }), m.client(b, "c")
		h := c.ask("s", "x")
		r := w.take()
		if r.Head.Flags&mdp.FlagOnce == 0 {
			t.Errorf("flags %02x", r.Head.Flags)
		}
		w.answer(r, "y")
		c.answered(h, mdp.OK, "y")
	})
}

// A worker that refuses is left alone for a while; others are asked at once.
func TestRefusingWorkerHasARest(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		h := c.ask("s", "x")
		w.refuse(w.take(), &mdp.Error{Status: mdp.NotTaken})
		w.quiet()
		other := m.worker(b, "s", 1)
		r := other.take()
		if r.Head.ID != h.ID || r.Head.Attempt != 1 {
			t.Errorf("another worker got %+v", r.Head)
		}
		c.ask("s", "y")
		w.quiet()
		m.pass(time.Second)
		w.take()
	})
}

// What nobody may take, as it was taken from the only worker there is, keeps nobody
// waiting who came later.
func TestNobodyWaitsBehindWhatNobodyTakes(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 4), m.client(b, "c")
		m.pass(100 * time.Millisecond)
		w.mute.Store(true)
		c.ask("s", "slow")
		w.take()
		m.pass(600 * time.Millisecond)
		m.wantCount(b, "suspicions", 1)
		w.mute.Store(false)
		w.send(mdp.Command{Kind: mdp.Heartbeat})
		m.pass(100 * time.Millisecond)
		w.expect(mdp.Cancel) // which it does not heed
		for range 3 {
			h := c.ask("s", "quick")
			m.settle()
			if len(w.got) == 0 {
				t.Fatal("a request waits beside a worker with room")
			}
			w.answer(w.take(), "z")
			c.answered(h, mdp.OK, "z")
			m.pass(137 * time.Millisecond)
		}
	})
}

// A worker that began to answer cannot take it back: an answer has no parts of two
// attempts, also where parts are collected.
func TestPartsOfTwoAttemptsAreNotMixed(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.dial(b, "c", mdp.Client, mdp.V01)
		c.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "q")
		r := w.take()
		w.partial(r, "part")
		w.refuse(r, mdp.Errorf(mdp.NotTaken, "no"))
		m.pass(time.Second)
		r = w.take()
		w.partial(r, "part")
		w.answer(r, "end")
		if got := c.next().body(); got != "part|end" {
			t.Errorf("answer %q", got)
		}
		m.empty(b)
	})
}
