package zsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// bubble runs f with a fake clock over a network of its own; the listener's host
// is "broker", the dialler's memsock.Anonymous.
func bubble(t *testing.T, f func(t *testing.T, n *memsock.Net, tr transport)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memsock.New()
		f(t, n, transport{"memsock", n, "tcp://broker:0", false})
	})
}

func TestCloseReasons(t *testing.T) {
	mine := errors.New("had enough")
	overAll(t, func(t *testing.T, tr transport) {
		server, client := newRecorder(), newRecorder()
		l := listen(t, tr, Config{}, server)
		c := dial(t, tr, l, Config{}, client)
		s := receive(t, server.opened)
		var lock sync.Mutex
		lock.Lock() // Closed must not come in this goroutine
		s.Close(mine)
		s.Close(errors.New("a later reason"))
		lock.Unlock()
		if err := receive(t, server.closed); err != mine {
			t.Errorf("closed for %v", err)
		}
		if err := receive(t, client.closed); !errors.Is(err, ErrPeerClosed) {
			t.Errorf("the other end closed for %v", err)
		}
		var b Batch
		for _, end := range []*Conn{c, s} {
			if err := end.Send(&b, octets([]string{"x"}), Body{}); err != ErrClosed {
				t.Errorf("send on a closed connection: %v", err)
			}
			end.CloseAfterFlush(nil)
		}
		b.Flush()
		waitFor(t, func() bool { return l.Counters().Open == 0 })
		if got := l.Counters(); got.Closed["other"] != 1 || got.Accepted != 1 || got.Opened != 1 {
			t.Errorf("counters %+v", got)
		}
		if len(server.closed)+len(client.closed) != 0 {
			t.Error("closed came twice")
		}
	})
}

func TestCloseInHandler(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		count := 0
		server.then = func(_ *Batch, c *Conn, _ *Msg) { count++; c.Close(nil) }
		l := listen(t, tr, Config{}, server)
		p := open(t, tr, l, "DEALER", 0)
		p.write(bytes.Repeat(frame(0, "x"), 100))
		if err := receive(t, server.closed); err != ErrClosed || count != 1 {
			t.Errorf("closed for %v after %d messages", err, count)
		}
	})
}

func TestLastWordsArrive(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		l := listen(t, tr, Config{}, server)
		client := newRecorder()
		c := dial(t, tr, l, Config{}, client)
		s := receive(t, server.opened)
		const n = 1000
		var b Batch
		for i := range n {
			if err := c.Send(&b, octets([]string{fmt.Sprint(i), strings.Repeat("x", i*4)}), Body{}); err != nil {
				t.Fatal(err)
			}
			send(t, s, "noise") // unread octets must not cost the other direction anything
		}
		c.CloseAfterFlush(errors.New("done"))
		if err := c.Send(&b, octets([]string{"late"}), Body{}); err != ErrClosed {
			t.Errorf("send after CloseAfterFlush: %v", err)
		}
		b.Flush()
		for i := range n {
			if got := receive(t, server.messages); got.frames[0] != fmt.Sprint(i) || len(got.frames[1]) != i*4 {
				t.Fatalf("message %d is %q", i, got.frames[0])
			}
		}
		if err := receive(t, server.closed); !errors.Is(err, ErrPeerClosed) {
			t.Errorf("listener's end closed for %v", err)
		}
		if err := receive(t, client.closed); err.Error() != "done" {
			t.Errorf("closed for %v", err)
		}
	})
}

// TestDyingPeer has a peer answer, die, and be written to: its answer counts.
func TestDyingPeer(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		server.hold = make(chan struct{}) // the reader comes late
		l := listen(t, tr, Config{}, server)
		p := open(t, tr, l, "DEALER", 0)
		s := receive(t, server.opened)
		p.write(frame(0, "the answer"))
		_ = p.Close()
		waitFor(t, func() bool {
			var b Batch
			err := s.Send(&b, octets([]string{"anybody there?"}), Body{})
			b.Flush()
			return err == ErrClosed
		})
		close(server.hold)
		if err := receive(t, server.closed); !errors.Is(err, ErrPeerClosed) {
			t.Errorf("closed for %v", err)
		}
		if got := receive(t, server.messages); got.frames[0] != "the answer" {
			t.Errorf("got %q", got.frames)
		}
	})
}

func TestDialledAndNeverRun(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		l := listen(t, tr, Config{}, server)
		for _, end := range []func(*Conn){
			func(c *Conn) { c.Close(nil) },
			func(c *Conn) { c.CloseAfterFlush(nil) },
			func(c *Conn) {
				var b Batch
				_ = c.Send(&b, octets([]string{"only this"}), Body{})
				c.CloseAfterFlush(nil)
			},
		} {
			c, err := Dial(t.Context(), l.Endpoint(), Config{Type: Dealer, Network: tr.network}, newRecorder())
			if err != nil {
				t.Fatal(err)
			}
			end(c)
			if err := receive(t, server.closed); !errors.Is(err, ErrPeerClosed) {
				t.Errorf("closed for %v", err)
			}
		}
		if got := receive(t, server.messages); got.frames[0] != "only this" {
			t.Errorf("got %q", got.frames)
		}
	})
}

func TestRunEnds(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{}, newRecorder())
		h := newRecorder()
		c, err := Dial(t.Context(), l.Endpoint(), Config{Type: Dealer, Network: tr.network}, h)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		receive(t, h.opened)
		why := errors.New("why")
		cancel(why)
		if err := receive(t, done); !errors.Is(err, ErrClosed) || !errors.Is(err, why) {
			t.Errorf("run: %v", err)
		}
		if err := c.Run(t.Context()); err == nil || len(h.opened) != 0 {
			t.Errorf("second run: %v", err)
		}
	})
}

func TestDialFails(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{Type: Pub}, newRecorder())
		_, err := Dial(t.Context(), l.Endpoint(), Config{Type: Dealer, Network: tr.network}, newRecorder())
		if !errors.Is(err, ErrHandshake) {
			t.Errorf("DEALER to PUB: %v", err)
		}
		if _, err := Dial(t.Context(), "tcp://127.0.0.1:1", Config{Type: Dealer}, newRecorder()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		if _, err := Listen(l.Endpoint(), Config{Type: Pub, Network: tr.network}, newRecorder()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		for _, bad := range []Config{{}, {Type: "REQ"}} {
			if _, err := Dial(t.Context(), l.Endpoint(), bad, newRecorder()); err == nil {
				t.Errorf("config %+v was accepted", bad)
			}
		}
		if _, err := Dial(t.Context(), "udp://a:1", Config{Type: Dealer}, newRecorder()); err == nil {
			t.Error("udp was accepted")
		}
	})
}

func TestHighWater(t *testing.T) {
	bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
		server := newRecorder()
		l := listen(t, tr, Config{}, server)
		client := newRecorder()
		c := dial(t, tr, l, Config{HighWaterMessages: 5, HighWaterBytes: 500_000}, client)
		n.Fault(memsock.Anonymous, "broker", memsock.Fault{Stall: true})
		var b Batch
		put := func(size int) error {
			defer b.Flush()
			return c.Send(&b, [][]byte{make([]byte, size)}, Body{})
		}
		if err := put(10 << 20); err != nil {
			t.Fatalf("an empty queue refused: %v", err)
		}
		if err := put(smallMessage); err != ErrHighWater {
			t.Errorf("octets over the mark: %v", err)
		}
		for i := range 3 { // the reserve is for what is small
			if err := put(900); err != nil {
				t.Errorf("small message %d behind a large one: %v", i, err)
			}
		}
		n.Heal(memsock.Anonymous, "broker")
		for range 4 {
			receive(t, server.messages)
		}
		synctest.Wait()
		n.Fault(memsock.Anonymous, "broker", memsock.Fault{Stall: true})
		_ = put(70_000) // fills the stream: from here on messages stay in the queue
		for i := range 4 {
			if err := put(1); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		if err := put(0); err != ErrHighWater {
			t.Errorf("messages over the mark: %v", err)
		}
		if m, o := c.Queued(); m != 5 || o < 4_000 || o > 71_000 {
			t.Errorf("%d messages, %d octets queued", m, o)
		}
		n.Heal(memsock.Anonymous, "broker")
		for range 5 {
			receive(t, server.messages)
		}
		synctest.Wait()
		if m, o := c.Queued(); m != 0 || o != 0 {
			t.Errorf("%d messages, %d octets queued after all were taken", m, o)
		}
		if err := c.Send(&b, nil, Body{}); err != ErrTooManyFrames {
			t.Errorf("no frames: %v", err)
		}
		if err := c.Send(&b, make([][]byte, 1025), Body{}); err != ErrTooManyFrames {
			t.Errorf("1,025 frames: %v", err)
		}
		if err := c.Send(&b, [][]byte{make([]byte, 64<<20+1)}, Body{}); err != ErrTooBig {
			t.Errorf("64 MiB + 1: %v", err)
		}
	})
}

// How many messages wait counts only once the peer was to take them.
func TestHighWaterOfMessagesIsOfTheUnread(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		l := listen(t, tr, Config{}, server)
		c := dial(t, tr, l, Config{HighWaterMessages: 5}, newRecorder())
		var b Batch
		for range 3 {
			for i := range 50 {
				if err := c.Send(&b, [][]byte{{byte(i)}}, Body{}); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			b.Flush()
			for range 50 {
				receive(t, server.messages)
			}
		}
	})
}
