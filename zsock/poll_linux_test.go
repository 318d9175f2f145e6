package zsock

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// What is timed on a shared connection is timed by its poller: these run on the
// real clock, with short limits.
func TestSharedTimeouts(t *testing.T) {
	t.Parallel()
	tr := transport{"tcp shared", nil, "tcp://127.0.0.1:0", true}
	t.Run("a message that is not finished", func(t *testing.T) {
		t.Parallel()
		h := newRecorder()
		p := open(t, tr, listen(t, tr, Config{ProgressTimeout: 50 * time.Millisecond}, h), "DEALER", 0)
		p.write(frame(0, strings.Repeat("x", 100))[:50])
		if err := receive(t, h.closed); !errors.Is(err, ErrProgress) {
			t.Errorf("closed for %v", err)
		}
	})
	t.Run("a peer that takes nothing", func(t *testing.T) {
		t.Parallel()
		h := newRecorder()
		l := listen(t, tr, Config{WriteTimeout: 50 * time.Millisecond}, h)
		open(t, tr, l, "DEALER", 0)
		send(t, receive(t, h.opened), strings.Repeat("x", 32<<20))
		if err := receive(t, h.closed); !errors.Is(err, ErrWriteTimeout) {
			t.Errorf("closed for %v", err)
		}
	})
	t.Run("a peer that hears our last words and stays", func(t *testing.T) {
		t.Parallel()
		h := newRecorder()
		l := listen(t, tr, Config{}, h)
		p := open(t, tr, l, "DEALER", 0)
		c, why := receive(t, h.opened), errors.New("enough")
		send(t, c, "last words")
		c.CloseAfterFlush(why)
		p.want(frame(0, "last words"))
		if err := receive(t, h.closed); !errors.Is(err, why) {
			t.Errorf("closed for %v", err)
		}
	})
}

// What many ends cause may all be for one peer: a poller does not keep it until it has
// looked after them all.
func TestPollerUnloads(t *testing.T) {
	t.Parallel()
	cfg, err := Config{Type: Router}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c, p := &Conn{cfg: &cfg}, new(poller)
	var wrote []*Conn
	c.try = journal{c, &wrote}
	for range heavy {
		if p.unload(); len(wrote) > 0 {
			t.Fatal("it writes what could wait")
		}
		if err := c.Send(&p.desk.batch, [][]byte{{'x'}}, Body{}); err != nil {
			t.Fatal(err)
		}
	}
	if p.unload(); len(wrote) == 0 || p.desk.batch.Heavy() {
		t.Errorf("after %d messages %d writes", heavy, len(wrote))
	}
}

// A connection is shared also where it begins to be read while something is written.
func TestSharedWhileWriting(t *testing.T) {
	t.Parallel()
	tr := transport{"tcp shared", nil, "tcp://127.0.0.1:0", true}
	l := listen(t, tr, Config{}, echoing())
	c, err := Dial(t.Context(), l.Endpoint(), Config{Type: Dealer, Shared: true}, newRecorder())
	if err != nil {
		t.Fatal(err)
	}
	inside := func(is bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writing, c.inside = is, is
	}
	inside(true)
	ended := make(chan bool)
	go c.Start(func() { close(ended) })
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.running
	})
	inside(false)
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.sock != nil
	})
	c.Close(ErrClosed)
	receive(t, ended)
}

// A poller ends with its last connection, and a later connection gets a new one.
func TestPollersEnd(t *testing.T) {
	t.Parallel()
	for range 20 {
		tr := transport{"tcp shared", nil, "tcp://127.0.0.1:0", true}
		t.Run("round", func(t *testing.T) {
			h := newRecorder()
			l := listen(t, tr, Config{}, echoing())
			c := dial(t, tr, l, Config{}, h)
			send(t, c, "ping")
			receive(t, h.messages)
		})
	}
}

// Whoever looks at a shared connection sees when its reader is at work, be it for
// another one.
func TestTurns(t *testing.T) {
	t.Parallel()
	tr := transport{"tcp shared", nil, "tcp://127.0.0.1:0", true}
	server, working, done := newRecorder(), make(chan bool), make(chan bool)
	server.then = func(*Batch, *Conn, *Msg) {
		working <- true
		<-done
	}
	l := listen(t, tr, Config{}, server)
	c := dial(t, transport{"tcp", nil, "", false}, l, Config{}, newRecorder())
	at := receive(t, server.opened)
	for range 3 {
		send(t, c, "x")
		<-working
		turns := at.Turns()
		if turns%2 == 0 {
			t.Errorf("%d turns while it handles a message", turns)
		}
		done <- true
		waitFor(t, func() bool { return at.Turns() > turns })
	}
	if n := c.Turns(); n != 0 {
		t.Errorf("%d turns of a connection with a reader of its own", n)
	}
}
