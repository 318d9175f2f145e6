package zsock

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// errander is a recorder that sends its reader on an errand at each pause.
type errander struct {
	*recorder
	errand func(*Conn)
	runs   atomic.Int32
}

func (e *errander) Paused(_ *Batch, c *Conn) {
	c.Errand(func() {
		e.runs.Add(1)
		e.errand(c)
	})
}

// beside returns two connections to h that have the same reader, and their peers.
func beside(t *testing.T, h *errander) (at, near [2]*Conn) {
	t.Helper()
	tr := transport{"tcp shared", nil, "tcp://127.0.0.1:0", true}
	l := listen(t, tr, Config{}, h)
	peers := make(map[*poller][2]*Conn)
	for {
		c := dial(t, transport{"tcp", nil, "", false}, l, Config{}, newRecorder())
		here := receive(t, h.opened)
		if first, found := peers[here.sock.p]; found {
			return [2]*Conn{first[0], here}, [2]*Conn{first[1], c}
		}
		peers[here.sock.p] = [2]*Conn{here, c}
	}
}

// A reader that is on an errand which does not end is relieved: others are read, and so
// is the connection itself. When the errand ends there still is one reader.
func TestRelieve(t *testing.T) {
	h := &errander{recorder: newRecorder()}
	started, end := make(chan *Conn, 256), make(chan bool)
	var held *Conn
	h.errand = func(c *Conn) {
		if c == held {
			started <- c
			<-end
		}
	}
	at, near := beside(t, h)
	held = at[0]
	at[1].Relieve() // nobody is away: nothing happens

	send(t, near[0], "x")
	receive(t, started)
	at[1].Relieve() // it is not away for that one
	send(t, near[1], "y")
	at[0].Relieve()
	for range 2 {
		receive(t, h.messages)
	}
	send(t, near[0], "z")
	if m := receive(t, h.messages); m.from != at[0] {
		t.Error("another one was read")
	}
	receive(t, started)
	at[0].Relieve()
	close(end)
	for range 100 {
		for i, c := range near {
			send(t, c, "more")
			if m := receive(t, h.messages); m.from != at[i] {
				t.Error("another one was read")
			}
		}
	}
	waitFor(t, func() bool { return h.runs.Load() == 203 })
}

// An errand that ends its goroutine does not end the reading.
func TestErrandThatExits(t *testing.T) {
	h := &errander{recorder: newRecorder()}
	h.errand = func(*Conn) { runtime.Goexit() }
	_, near := beside(t, h)
	for range 10 {
		for _, c := range near {
			send(t, c, "x")
			receive(t, h.messages)
		}
	}
}

// Errands are run although their connections end meanwhile, and so is the one of the
// last connection.
func TestErrandsOutliveConnections(t *testing.T) {
	h := &errander{recorder: newRecorder()}
	ran := make(chan bool, 16)
	h.errand = func(*Conn) { ran <- true }
	h.then = func(_ *Batch, c *Conn, _ *Msg) { c.Close(ErrClosed) }
	_, near := beside(t, h)
	for _, c := range near {
		send(t, c, "x")
		receive(t, ran)
		receive(t, h.closed)
	}
}
