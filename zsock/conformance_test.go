package zsock

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shapes are the messages that every transport, every security and every foreign
// peer must carry unchanged.
func shapes() map[string][]string {
	fill := func(n int) string { return strings.Repeat("0123456789abcdef", n/16+1)[:n] }
	many := make([]string, 1024)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	return map[string][]string{
		"one empty frame":       {""},
		"only empty frames":     {"", "", ""},
		"delimiter":             {"", "MDPC02", "echo", "body"},
		"255 octets":            {fill(255)},
		"256 octets":            {fill(256)},
		"around 255":            {fill(254), fill(255), fill(256), fill(257)},
		"below a large frame":   {fill(bigFrame - 1)},
		"just a large frame":    {fill(bigFrame)},
		"above a large frame":   {"head", fill(bigFrame + 1)},
		"large in the middle":   {"a", fill(100_000), "", fill(70_000), "b"},
		"around a buffer":       {fill(maxBuffer - 9), fill(maxBuffer), fill(maxBuffer + 1)},
		"small, beyond buffers": {fill(15_000), fill(15_000), fill(15_000), fill(15_000), fill(15_000)},
		"1024 frames":           many,
		"10 MiB":                {"head", fill(10 << 20)},
	}
}

func TestShapes(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		testShapes(t, tr, Config{})
	})
}

// testShapes sends every shape to an echo and back, one at a time and then all at
// once.
func testShapes(t *testing.T, tr transport, cfg Config) {
	server := echoing()
	cfg.Type = Router
	l := listen(t, tr, cfg, server)
	cfg.Type = Dealer
	client := newRecorder()
	c := dial(t, tr, l, cfg, client)
	all := shapes()
	for name, frames := range all {
		send(t, c, frames...)
		if got := receive(t, client.messages); !slices.Equal(got.frames, frames) {
			t.Errorf("%s: came back as %d frames, %.60q", name, len(got.frames), got.frames)
		}
	}
	var names []string
	for name, frames := range all {
		if name != "10 MiB" { // an empty queue takes it; here it is not empty
			names = append(names, name)
			send(t, c, frames...)
		}
	}
	for _, name := range names {
		if got := receive(t, client.messages); !slices.Equal(got.frames, all[name]) {
			t.Errorf("%s, pipelined: came back as %d frames, %.60q", name, len(got.frames), got.frames)
		}
	}
	waitFor(t, func() bool { m, o := c.Queued(); return m == 0 && o == 0 })
}

func TestOrder(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{}, echoing())
		client := newRecorder()
		c := dial(t, tr, l, Config{}, client)
		const n = 4000
		go func() {
			var b Batch
			for i := range n {
				size := i % 300
				if i%97 == 0 {
					size = 20_000 + i
				}
				for c.Send(&b, [][]byte{fmt.Append(nil, i), make([]byte, size)}, Body{}) != nil {
					b.Flush() // the queue is full for now
				}
				if i%7 == 0 {
					b.Flush()
				}
			}
			b.Flush()
		}()
		for i := range n {
			got := receive(t, client.messages)
			if got.frames[0] != fmt.Sprint(i) {
				t.Fatalf("message %s in place of %d", got.frames[0], i)
			}
		}
	})
}

// TestManySenders has goroutines send to one connection, each with a batch of its
// own: nothing is lost, and what one sent stays in order.
func TestManySenders(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		const senders, each = 8, 200
		server := newRecorder()
		l := listen(t, tr, Config{}, server)
		c := dial(t, tr, l, Config{}, newRecorder())
		for id := range senders {
			go func() {
				var b Batch
				for i := range each {
					frames := octets([]string{fmt.Sprint(id), fmt.Sprint(i), strings.Repeat("x", i*i%9_000)})
					for c.Send(&b, frames, Body{}) == ErrHighWater {
						b.Flush() // the queue is full for now
					}
					if i%(id+1) == 0 || i == each-1 {
						b.Flush()
					}
				}
			}()
		}
		next := make(map[string]int)
		for range senders * each {
			got := receive(t, server.messages)
			if i := next[got.frames[0]]; got.frames[1] != fmt.Sprint(i) || len(got.frames[2]) != i*i%9_000 {
				t.Fatalf("sender %s: message %s of %d octets in place of %d", got.frames[0], got.frames[1], len(got.frames[2]), i)
			}
			next[got.frames[0]]++
		}
		waitFor(t, func() bool { m, o := c.Queued(); return m == 0 && o == 0 })
	})
}

// TestForwarding sends bodies from one connection to others by reference: what
// arrives must not depend on when the original message is gone.
func TestForwarding(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		held := make(chan Body, 100)
		server.then = func(_ *Batch, _ *Conn, m *Msg) { held <- m.Body(1).Hold() }
		l := listen(t, tr, Config{}, server)
		client := newRecorder()
		from, to := dial(t, tr, l, Config{}, client), dial(t, tr, l, Config{}, client)
		receive(t, server.opened)
		target := receive(t, server.opened)
		_ = to
		for i := range 50 {
			small, large := strings.Repeat(fmt.Sprint(i%10), 10), strings.Repeat(fmt.Sprint(i%10), 30_000)
			send(t, from, "head", small, large)
			send(t, from, "head", small)
		}
		for i := range 50 {
			for _, frames := range []int{2, 1} {
				body := receive(t, held)
				if body.Frames() != frames || len(body.Append(nil)) != frames {
					t.Fatalf("body with %d frames, want %d", body.Frames(), frames)
				}
				var b Batch
				if err := target.Send(&b, [][]byte{fmt.Append(nil, i)}, body); err != nil {
					t.Fatal(err)
				}
				body.Release()
				b.Flush()
			}
		}
		seen := 0
		for range 100 {
			got := receive(t, client.messages)
			digit := got.frames[0][len(got.frames[0])-1:]
			for _, f := range got.frames[1:] {
				if strings.Trim(f, digit) != "" {
					t.Fatalf("message %s carries %.20q", got.frames[0], f)
				}
				seen++
			}
		}
		if seen != 150 {
			t.Errorf("%d body frames arrived, want 150", seen)
		}
	})
}

func TestIdentities(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		server.then = func(b *Batch, c *Conn, m *Msg) {
			if string(c.Peer().Identity) != "twin" || c.Peer().Type != Dealer {
				t.Errorf("peer %+v", c.Peer())
			}
			_ = c.Send(b, nil, m.Body(0))
		}
		l := listen(t, tr, Config{}, server)
		var twins []*rawPeer
		for range 2 {
			p := &rawPeer{Conn: connect(t, tr, l), t: t}
			p.write(say(commandFrame("READY", property("Socket-Type", "DEALER")+property("Identity", "twin"))))
			p.take(64)
			p.frame()
			twins = append(twins, p)
		}
		for i := range 100 {
			twins[0].write(frame(0, fmt.Sprint("for one ", i)))
			twins[1].write(frame(0, fmt.Sprint("for two ", i)))
		}
		for i := range 100 {
			twins[0].want(frame(0, fmt.Sprint("for one ", i)))
			twins[1].want(frame(0, fmt.Sprint("for two ", i)))
		}
		if c := dial(t, tr, l, Config{}, newRecorder()); c.Peer().Type != Router {
			t.Errorf("the listener is seen as %+v", c.Peer())
		}
	})
}

// TestWhoTalksToWhom is the table of RFC 28 and 29, tried pair by pair.
func TestWhoTalksToWhom(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		peers := []string{"REQ", "REP", "DEALER", "ROUTER", "PUB", "SUB", "XPUB", "XSUB", "PUSH", "PULL", "PAIR", "", "router"}
		fits := map[SocketType]string{
			Router: "REQ DEALER ROUTER", Dealer: "ROUTER REP DEALER",
			Pub: "SUB XSUB", XPub: "SUB XSUB", Sub: "PUB XPUB", XSub: "PUB XPUB",
		}
		for own, list := range fits {
			h := newRecorder()
			l := listen(t, tr, Config{Type: own}, h)
			for _, peer := range peers {
				if slices.Contains(strings.Fields(list), peer) {
					open(t, tr, l, peer, 0)
					if c := receive(t, h.opened); string(c.Peer().Type) != peer {
						t.Errorf("%s sees %s as %s", own, peer, c.Peer().Type)
					}
					continue
				}
				p := &rawPeer{Conn: connect(t, tr, l), t: t}
				p.write(greeting(0, "NULL"), ready(peer))
				if rest := string(p.ended()); !strings.Contains(rest, "\x05ERROR") {
					t.Errorf("%s to %s was not told why: %q", peer, own, rest)
				}
			}
		}
	})
}
