package broker

import (
	"strconv"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

func detach(h *mdp.Head) { h.Flags |= mdp.FlagDetached }

func (p *peer) attach(id mdp.RequestID) mdp.Head {
	p.m.t.Helper()
	p.tokens++
	h := mdp.Head{Token: p.tokens, ID: id}
	p.send(mdp.Command{Kind: mdp.Attach, Head: h})
	return h
}

func TestDetached(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x", detach)
		r := w.take()
		c.close()
		w.quiet() // it goes on
		again, other := m.client(b, "c"), m.client(b, "other")
		again.answered(again.attach(h.ID), mdp.Running, "")
		other.answered(other.attach(h.ID), mdp.Unknown, "")
		again.answered(again.attach(mdp.RequestID{9}), mdp.Unknown, "")
		w.answer(r, "y")
		m.settle()
		again.answered(again.attach(h.ID), mdp.OK, "y")
		other.answered(other.attach(h.ID), mdp.Unknown, "")
		again.failed(again.ask("s", "x", detach, asID(1)), mdp.Conflict, false)
		m.pass(59 * time.Second)
		again.answered(again.attach(h.ID), mdp.OK, "y") // until 60 s after the answer
		m.pass(3 * time.Second)
		again.answered(again.attach(h.ID), mdp.Unknown, "")
		m.empty(b)
		if b.detached.kept != 0 || len(b.detached.entries) != 0 {
			t.Errorf("%d octets kept, %d entries", b.detached.kept, len(b.detached.entries))
		}
	})
}

func TestDetachedThatFails(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		c := m.client(b, "c")
		h := c.ask("s", "x", detach)
		r := w.take()
		c.close()
		w.refuse(r, &mdp.Error{Status: mdp.AppError, Text: "no"})
		m.settle()
		c = m.client(b, "c")
		c.failed(c.attach(h.ID), mdp.AppError, true)

		// What never ran may be asked again under the same id.
		h = c.ask("s", "x", detach, asID(77), within(100*time.Millisecond))
		r = w.take()
		busyOne := c.ask("s", "y", detach, asID(78), within(50*time.Millisecond))
		c.failed(busyOne, mdp.Expired, false)
		c.failed(h, mdp.Expired, true)
		w.expect(mdp.Cancel)
		w.answer(r, "")
		h = c.ask("s", "y", detach, asID(78))
		w.answer(w.take(), "z")
		c.answered(h, mdp.OK, "z")

		gone := c.ask("s", "x", detach, asID(79)) // CANCEL ends it for good
		r = w.take()
		c.cancelRequest(gone)
		w.expect(mdp.Cancel)
		c.answered(c.attach(gone.ID), mdp.Unknown, "")
		w.answer(r, "")
		m.empty(b)
	})
}

func TestDetachedAnswersAreBounded(t *testing.T) {
	var d detached
	d.init()
	who := &clientInfo{instance: "c"}
	body := zsock.NewBody(make([]byte, 1<<20))
	defer body.Release()
	for i := range maxKept>>20 + 3 {
		id := mdp.RequestID{0: byte(i), 1: byte(i >> 8)}
		if err := d.open(id, who); err != nil {
			t.Fatal(err)
		}
		d.done(id, nil, body, 0)
	}
	if d.kept > maxKept || d.kept < maxKept-costOf(1<<20) {
		t.Errorf("%d octets are kept", d.kept)
	}
	if e := d.entries[mdp.RequestID{0: 1, 1: 1}]; e.err == nil || e.err.Status != mdp.NoSpace || !e.err.MayHaveRun {
		t.Errorf("the last one: %v", e.err)
	}
	d.expire(int64(detachedKeep) + 1)
	if d.kept != 0 || len(d.entries) != 0 {
		t.Errorf("%d octets, %d entries after expiry", d.kept, len(d.entries))
	}
	for i := range maxDetached + 1 {
		err := d.open(mdp.RequestID{0: byte(i), 1: byte(i >> 8)}, &clientInfo{instance: strconv.Itoa(i / maxDetachedOf)})
		if (err != nil) != (i == maxDetached) {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}
