package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// total bounds what the brokers of these tests hold, and lets a service hold a quarter.
const total = 4 << 20

func bounded(c *Config) { c.MaxTotalBytes, c.MaxBytes = total, total/4 }

// fill asks for names that nobody offers until the peer is told BUSY twice, of a large
// request and of a smaller one, and returns what it was told last.
func (p *peer) fill(name string, options ...requestOption) *mdp.Error {
	p.m.t.Helper()
	var last *mdp.Error
	for _, size := range []int{total / 64, total / 1024} {
		last = nil
		for i := 0; last == nil; i++ {
			if i == 10_000 {
				p.m.t.Fatalf("%s is never told BUSY", name)
			}
			p.ask(fmt.Sprint(name, i/8), string(make([]byte, size)), options...) // no service is full
			p.m.settle()
			select {
			case got := <-p.got:
				last = got.err().(*mdp.Error)
			default:
			}
		}
		if last.Status != mdp.Busy || last.RetryAfter <= 0 || last.MayHaveRun {
			p.m.t.Fatalf("%s is told %v", name, last)
		}
	}
	return last
}

// One client that asks for many names which nobody offers, without a deadline, holds
// half of the total and no more; whoever else comes finds room, also after a long time.
func TestOneClientCannotTakeTheTotal(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", bounded)
		w, flood := m.worker(b, "s", 1), m.client(b, "flood")
		told := flood.fill("none")
		if !strings.Contains(told.Text, "this connection has its share") {
			t.Errorf("told %q", told.Text)
		}
		m.wantCount(b, "busy", 2)
		if n := b.Held(); n < total/2 || n > total*5/8 {
			t.Errorf("one client holds %d of %d octets", n, int64(total))
		}
		m.pass(time.Hour)
		for i := range 10 {
			c := m.client(b, fmt.Sprint("c", i))
			h := c.ask("s", string(make([]byte, total/64)), within(time.Second))
			w.answer(w.take(), "y")
			c.answered(h, mdp.OK, "y")
		}
		flood.failed(flood.ask("s", "x"), mdp.Busy, false)
		flood.close()
		m.pass(time.Second)
		m.empty(b)
	})
}

// Of several such clients, one after another, each finds something and leaves something.
func TestManyClientsLeaveRoom(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", bounded)
		w := m.worker(b, "s", 1)
		left := int64(total)
		for i := range 8 {
			flood := m.client(b, fmt.Sprint("flood", i))
			flood.fill(fmt.Sprint("none of ", i, " "))
			free := int64(total) - b.Held()
			if free >= left || i > 0 && free < left*3/4 {
				t.Errorf("flood %d leaves %d octets of %d", i, free, left)
			}
			left = free
		}
		c := m.client(b, "c")
		h := c.ask("s", string(make([]byte, total/64)), within(time.Second))
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
	})
}

// A linked broker is one connection, and its requests go back to it; calls made inside
// the process are one client. What holds all of that is told by no account in the end.
func TestSharesOfOthersThanClients(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", bounded)
		m.client(b, "flood").fill("none")
		ctx, cancel := context.WithCancel(context.Background())
		calls := make(chan error, 1000)
		call := func() error {
			go func() {
				_, err := b.Call(ctx, "none of theirs", make([]byte, total/128))
				calls <- err
			}()
			m.settle()
			select {
			case err := <-calls:
				return err
			default:
				return nil
			}
		}
		for n := 0; ; n++ {
			if err := call(); err != nil {
				if n == 0 || !strings.Contains(err.Error(), "inside it have their share") {
					t.Errorf("call %d: %v", n, err)
				}
				break
			}
		}
		w, p := m.worker(b, "s", 100), m.fakePeer(b, "p")
		m.settle()
		var told *mdp.Error
		for n := 0; told == nil; n++ {
			h := mdp.Head{Token: uint64(n + 1), Attempt: 1, ID: mdp.RequestID{2, 15: byte(n)}}
			p.send(mdp.Command{Kind: mdp.Request, Service: []byte("s"), Head: h}, string(make([]byte, total/128)))
			m.settle()
			if len(w.got) == n+1 {
				continue
			}
			told = p.nextFinal().err().(*mdp.Error)
			if n == 0 || told.Status != mdp.NotTaken || !strings.Contains(told.Text, "this connection has its share") {
				t.Errorf("request %d of a peer: %v", n, told)
			}
		}
		cancel()
		m.settle()
		if n := b.inside.Load(); n != 0 {
			t.Errorf("calls that have ended hold %d octets", n)
		}
	})
}

// Detached requests go on when their client goes. It does not get another share for
// more of them each time it comes; what others ask is no worse for it.
func TestDetachedRequestsKeepTheirShare(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", bounded)
		id := 0
		next := func(h *mdp.Head) { id++; h.ID[13], h.ID[14] = byte(id>>8), byte(id) }
		for i := range 3 {
			flood := m.client(b, fmt.Sprint("flood", i))
			flood.fill(fmt.Sprint("none of ", i, " "), detach, next)
			flood.close()
			m.pass(time.Second)
		}
		if n := b.orphaned.Load(); n != b.Held() || n > total*5/8 {
			t.Errorf("what was left is %d octets of %d, all hold %d", n, int64(total), b.Held())
		}
		c := m.client(b, "c")
		c.failed(c.ask("none", "x", detach, next), mdp.Busy, false)
		c.ask("none", string(make([]byte, total/64)))
		c.quiet()
		c.close()
		m.pass(time.Hour) // nobody offers the names: they are given up
		m.empty(b)
	})
}

// Parts of answers that are kept for a client count for its share, too: with a few small
// requests it is not to have large answers fill the broker.
func TestPartsOfAnswersHaveTheShareOfTheirClient(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxTotalBytes, c.MaxBytes, c.MaxMessage = total, total, total })
		w, c := m.worker(b, "s", 10), m.dial(b, "c", mdp.Client, mdp.V01)
		var asked []*message
		for range 8 {
			c.send(mdp.Command{Kind: mdp.Request, Service: []byte("s")}, "x")
			asked = append(asked, w.take())
		}
		most := int64(0)
		for range 8 {
			for _, r := range asked {
				w.partial(r, string(make([]byte, total/32)))
				m.settle()
				most = max(most, b.Held())
			}
		}
		if most < total/2 || most > total*5/8 {
			t.Errorf("the parts for one client take %d of %d octets", most, int64(total))
		}
		if b.Counters()["partials_dropped"] == 0 {
			t.Error("nothing was dropped")
		}
	})
}
