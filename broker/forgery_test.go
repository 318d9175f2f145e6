package broker

import (
	"testing"

	"github.com/mdmesh/mdmesh/mdp"
)

// A worker can answer what it was given, and nothing else: not what
// another one holds, though it knows token and id, not even while it holds something
// itself, and not twice.
func TestForgedReplies(t *testing.T) {
	for name, dialect := range map[string]mdp.Dialect{"native": mdp.Native, "0.1": mdp.V01, "0.2": mdp.V02} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				honest := m.worker(b, "s", 1)
				c := m.client(b, "c")
				h := c.ask("s", "x")
				r := honest.take()
				var thief *peer
				if dialect == mdp.Native {
					thief = m.worker(b, "s", 1)
				} else {
					thief = m.foreignWorker(b, "s", dialect)
				}
				h2 := c.ask("s", "its own")
				own := thief.take()

				forged := &message{Command: mdp.Command{Head: r.Head, Address: mdp.AppendAddress(nil, r.Head.Token)}}
				thief.answer(forged, "stolen")
				forgeries := uint64(1)
				if dialect != mdp.V01 { // which knows no parts
					thief.partial(forged, "stolen")
					forgeries++
				}
				if dialect == mdp.Native {
					for _, status := range []mdp.Status{mdp.NotTaken, mdp.Cancelled, mdp.AppError} {
						thief.refuse(forged, &mdp.Error{Status: status})
						forgeries++
					}
				}
				forged.Address, forged.Head.Token = []byte("undefined"), 0
				thief.answer(forged, "stolen")
				c.quiet()
				m.wantCount(b, "unasked_replies", forgeries+1)
				thief.quiet() // a sign of life, no DISCONNECT
				thief.alive()
				honest.answer(r, "y")
				c.answered(h, mdp.OK, "y")
				thief.answer(own, "z")
				c.answered(h2, mdp.OK, "z")
				honest.answer(r, "again")
				c.quiet()
				m.wantCount(b, "unasked_replies", forgeries+2)
				m.wantCount(b, "answered", 2)
				m.empty(b)
			})
		})
	}
}

// A client can cancel what it has asked for on this connection, and nothing
// else, though it knows token and id and claims the same instance.
func TestForgedCancel(t *testing.T) {
	for name, flag := range map[string]uint8{"plain": 0, "once": mdp.FlagOnce, "detached": mdp.FlagDetached} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *mesh) {
				b := m.broker("b")
				w, c := m.worker(b, "s", 1), m.client(b, "c")
				runs, waits := c.ask("s", "runs", flags(flag)), c.ask("s", "waits", flags(flag), asID(2))
				r := w.take()
				for _, thief := range []*peer{m.client(b, "thief"), m.client(b, "c"), m.dial(b, "stranger", mdp.Client, mdp.Native), m.fakePeer(b, "p")} {
					for _, h := range []mdp.Head{runs, waits} {
						thief.send(mdp.Command{Kind: mdp.Cancel, Service: serviceOf(thief), Head: mdp.Head{Token: h.Token, ID: h.ID}})
						thief.send(mdp.Command{Kind: mdp.Cancel, Service: serviceOf(thief), Head: mdp.Head{Token: r.Head.Token, ID: h.ID}})
					}
				}
				w.quiet()
				m.wantCount(b, "cancelled", 0)
				w.answer(r, "one")
				c.answered(runs, mdp.OK, "one")
				w.answer(w.take(), "two")
				c.answered(waits, mdp.OK, "two")
				m.empty(b)
			})
		})
	}
}

// serviceOf is what the commands of a peer carry beside its tokens.
func serviceOf(p *peer) []byte {
	if p.role == mdp.Peer {
		return []byte("s")
	}
	return nil
}

// A client learns nothing of another one's detached request by its id, neither
// while it runs nor when it is answered, and cannot take its place.
func TestForgedAttach(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		thief, stranger := m.client(b, "thief"), m.dial(b, "stranger", mdp.Client, mdp.Native)
		h := c.ask("s", "x", flags(mdp.FlagDetached))
		r := w.take()
		refused := func() {
			t.Helper()
			for _, p := range []*peer{thief, stranger} {
				p.send(mdp.Command{Kind: mdp.Attach, Head: mdp.Head{Token: h.Token, ID: h.ID}})
				p.answered(h, mdp.Unknown, "")
			}
			thief.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: mdp.Head{Flags: mdp.FlagDetached, Token: h.Token, ID: h.ID}}, "y")
			thief.failed(h, mdp.Conflict, false)
		}
		refused()
		c.close()
		refused()
		w.answer(r, "secret")
		refused()
		w.quiet()
		again := m.client(b, "c")
		again.send(mdp.Command{Kind: mdp.Attach, Head: mdp.Head{Token: 9, ID: h.ID}})
		again.answered(mdp.Head{Token: 9, ID: h.ID}, mdp.OK, "secret")
		m.empty(b)
	})
}

// What an answer belongs to is found, not searched for: a token that was made up would
// have all that a worker holds looked through, under the service's mutex.
func TestMadeUpTokenIsNotSearchedFor(t *testing.T) {
	t.Parallel()
	b, err := New(Config{Listen: []string{"tcp://b:1"}})
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{service: newService(b, "s"), dialect: mdp.Native, conn: &conn{b: b}}
	find := func(token uint64) int {
		w.conn.cmd.Head.Token = token
		return w.answered()
	}
	var own []uint64
	for i := range 8 {
		r := w.service.table.take()
		r.service = w.service
		r.hold(w, nil, i, 1)
		w.held = append(w.held, held{token: r.token(), r: r})
		own = append(own, r.token())
	}
	const madeUp = 1 << 60
	w.held = append(w.held, held{token: madeUp, r: w.held[0].r}) // only who looks at all of them finds it
	if i := find(madeUp); i != -1 {
		t.Errorf("a made-up token was looked for among all that the worker holds, and found at %d", i)
	}
	w.held = w.held[:8]
	for _, i := range []int{2, 7, 3} {
		w.held[i].r.dropHolder(w, nil)
		w.orphan(i, false)
	}
	for i, token := range own {
		if at := find(token); at != i {
			t.Errorf("what is held at %d is found at %d", i, at)
		}
	}
	for _, i := range []int{2, 0, 3, 7} { // the last ones take the places of these
		at := find(own[i])
		if r := w.held[at].r; r != nil {
			r.dropHolder(w, nil)
		}
		w.release(at)
		if at := find(own[i]); at != -1 {
			t.Errorf("%d was released and is found at %d", i, at)
		}
	}
	for at, h := range w.held {
		if found := find(h.token); found != at {
			t.Errorf("what is held at %d is found at %d", at, found)
		}
	}
	if len(w.held) != 4 || w.orphans != nil {
		t.Errorf("%d are held, %d without a request", len(w.held), len(w.orphans))
	}
}
