package zsock

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// TestTimeouts runs every deadline on the bubble's clock.
func TestTimeouts(t *testing.T) {
	t.Run("handshake", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
			l := listen(t, tr, Config{}, newRecorder())
			p := &rawPeer{Conn: connect(t, tr, l), t: t}
			start := time.Now()
			p.write(greeting(0, "NULL"))
			p.ended()
			took := time.Since(start)
			synctest.Wait() // it is counted once the connection is closed
			if took != 2*time.Second || l.Counters().Failed["handshake-timeout"] != 1 {
				t.Errorf("after %v: %v", took, l.Counters().Failed)
			}
		})
	})
	t.Run("dial", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
			nl, _ := n.Listen("tcp://silent:1")
			start := time.Now()
			_, err := Dial(t.Context(), "tcp://silent:1", Config{Type: Dealer, Network: n}, newRecorder())
			if took := time.Since(start); took != 2*time.Second || !errors.Is(err, ErrHandshakeTimeout) {
				t.Errorf("after %v: %v", took, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start = time.Now()
			_, err = Dial(ctx, "tcp://silent:1", Config{Type: Dealer, Network: n}, newRecorder())
			if took := time.Since(start); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %v: %v", took, err)
			}
			_ = nl.Close()
		})
	})
	for name, cutMessage := range map[string][]byte{
		"header": {1}, "small message": frame(0, "hello")[:3], "large message": announce(0, 1<<20),
		"between frames": frame(1, "more to come"),
	} {
		t.Run("progress, "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
				h := newRecorder()
				l := listen(t, tr, Config{}, h)
				p := open(t, tr, l, "DEALER", 0)
				start := time.Now()
				_ = p.SetDeadline(time.Time{})
				p.write(cutMessage)
				err := <-h.closed
				if took := time.Since(start); !errors.Is(err, ErrProgress) || took < 30*time.Second || took > 31*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
	t.Run("progress, octets buy time", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
			h := newRecorder()
			l := listen(t, tr, Config{}, h)
			p := open(t, tr, l, "DEALER", 0)
			_ = p.SetDeadline(time.Time{})
			p.write(announce(0, 10<<20))
			for range 100 { // 100 s for one message, at 102 KiB/s
				time.Sleep(time.Second)
				p.write(make([]byte, 10<<20/100+1)[:10<<20/100])
			}
			p.write(make([]byte, 10<<20-100*(10<<20/100)), frame(0, "next"))
			if got := receive(t, h.messages); len(got.frames[0]) != 10<<20 {
				t.Errorf("%d octets", len(got.frames[0]))
			}
			if got := receive(t, h.messages); got.frames[0] != "next" {
				t.Errorf("then %q", got.frames)
			}
		})
	})
	t.Run("progress, each message has its own time", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
			h := newRecorder()
			l := listen(t, tr, Config{}, h)
			p := open(t, tr, l, "DEALER", 0)
			_ = p.SetDeadline(time.Time{})
			for _, f := range [][]byte{frame(0, "one"), frame(0, "two"), commandFrame("PING", "\x00\x00x"), frame(0, "three")} {
				p.write(f[:3])
				time.Sleep(25 * time.Second)
				p.write(f[3:])
				time.Sleep(10 * time.Second)
			}
			if len(h.messages) != 3 || len(h.closed) != 0 {
				t.Errorf("%d messages, closed %d times", len(h.messages), len(h.closed))
			}
		})
	})
	t.Run("idle between messages", func(t *testing.T) {
		bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
			l := listen(t, tr, Config{}, echoing())
			h := newRecorder()
			c := dial(t, tr, l, Config{}, h)
			for range 5 {
				send(t, c, "hello")
				receive(t, h.messages)
				time.Sleep(time.Hour)
			}
			if len(h.closed) != 0 {
				t.Errorf("an idle connection was closed: %v", <-h.closed)
			}
		})
	})
	t.Run("write", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
			l := listen(t, tr, Config{}, newRecorder())
			h := newRecorder()
			c := dial(t, tr, l, Config{}, h)
			synctest.Wait()
			n.Fault(memsock.Anonymous, "broker", memsock.Fault{Stall: true})
			start := time.Now()
			var b Batch
			_ = c.Send(&b, [][]byte{make([]byte, 1<<20)}, Body{})
			b.Flush()
			err := <-h.closed
			if took := time.Since(start); took != 30*time.Second || !errors.Is(err, ErrWriteTimeout) {
				t.Errorf("after %v: %v", took, err)
			}
		})
	})
	t.Run("close after flush", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
			l := listen(t, tr, Config{}, newRecorder())
			h := newRecorder()
			c := dial(t, tr, l, Config{WriteTimeout: 5 * time.Second}, h)
			synctest.Wait()
			n.Fault(memsock.Anonymous, "broker", memsock.Fault{Stall: true})
			start := time.Now()
			var b Batch
			_ = c.Send(&b, [][]byte{make([]byte, 1<<20)}, Body{})
			why := errors.New("why")
			c.CloseAfterFlush(why)
			if err := <-h.closed; err != why {
				t.Error(err)
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("after %v", took)
			}
		})
	})
	t.Run("linger", func(t *testing.T) {
		bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
			server := newRecorder()
			l := listen(t, tr, Config{}, server)
			p := open(t, tr, l, "DEALER", 0)
			s := receive(t, server.opened)
			start := time.Now()
			s.CloseAfterFlush(nil)
			p.write(frame(0, "not delivered"))
			if err := <-server.closed; err != ErrClosed {
				t.Error(err)
			}
			if took := time.Since(start); took != lingerTime || len(server.messages) != 0 {
				t.Errorf("after %v, %d messages", took, len(server.messages))
			}
		})
	})
}

func TestBufferShrinksWhenIdle(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memsock.Net, tr transport) {
		server := newRecorder()
		sizes := make(map[int]bool)
		server.then = func(b *Batch, c *Conn, m *Msg) {
			sizes[c.in.size] = true
			_ = c.Send(b, nil, m.Body(0))
		}
		l := listen(t, tr, Config{}, server)
		p := open(t, tr, l, "DEALER", 0)
		_ = p.SetDeadline(time.Time{})
		s := receive(t, server.opened)
		block := bytes.Repeat(frame(0, strings.Repeat("x", 100)), 500)
		for range 10 {
			p.write(block)
			p.want(block)
		}
		time.Sleep(time.Hour)
		_ = p.Close()
		<-server.closed // from here on the test may look into the connection
		if !sizes[minBuffer] || !sizes[4*minBuffer] || !sizes[maxBuffer] {
			t.Errorf("buffers of %v while it grew", sizes)
		}
		if s.in.size != minBuffer || s.pending != nil || s.cur != nil {
			t.Errorf("idle: buffer of %d, output %p %p", s.in.size, s.pending, s.cur)
		}
	})
}
