package zsock

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestPing(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := echoing()
		l := listen(t, tr, Config{}, server)
		p := open(t, tr, l, "DEALER", 1)
		for _, context := range []string{"", "c", strings.Repeat("c", 16)} {
			p.write(commandFrame("PING", "\x00\x0a"+context))
			p.want(commandFrame("PONG", context))
		}
		// A peer's timer may put commands between the frames of a message, whichever
		// buffer the message is in.
		for _, size := range []int{10, 1000, 30_000, 100_000} {
			big := strings.Repeat("x", size)
			p.write(frame(1, big))
			p.write(commandFrame("PING", "\x00\x00mid"), commandFrame("PONG", ""), commandFrame("NOVELTY", "?"))
			p.want(commandFrame("PONG", "mid"))
			p.write(frame(1, big), longFrame(4, "\x04PING\x00\x00two"))
			p.want(commandFrame("PONG", "two"))
			p.write(frame(0, "end"))
			p.want(frame(1, big), frame(1, big), frame(0, "end"))
		}
		if got := l.Counters().IgnoredMessages; got != 4 {
			t.Errorf("%d ignored commands, want 4", got)
		}
	})
}

// TestPongOvertakes has a peer ping while much waits for it.
func TestPongOvertakes(t *testing.T) {
	bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
		h := newRecorder()
		l := listen(t, tr, Config{}, h)
		p := open(t, tr, l, "DEALER", 1)
		s := receive(t, h.opened)
		synctest.Wait()
		first := strings.Repeat("a", 200_000)
		send(t, s, first)
		synctest.Wait() // the first message is half written
		send(t, s, "second")
		p.write(commandFrame("PING", "\x00\x00now"))
		p.write(bytes.Repeat(commandFrame("PING", "\x00\x00flood"), 1000))
		synctest.Wait()
		p.want(frame(0, first), commandFrame("PONG", "now"), commandFrame("PONG", "flood"))
		pongs := 0
		for {
			flags, body := p.frame()
			if flags == 0 {
				if string(body) != "second" {
					t.Errorf("then %q", body)
				}
				break
			}
			pongs++
		}
		if dropped := l.Counters().DroppedPongs; pongs > 200 || dropped != uint64(999-pongs) {
			t.Errorf("%d PONGs came, %d were dropped", pongs, dropped)
		}
		synctest.Wait() // the writer has noted what it wrote
		if m, o := s.Queued(); m != 0 || o != 0 {
			t.Errorf("%d messages, %d octets are still queued", m, o)
		}
	})
}

func TestSmallFramesInLongForm(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{}, echoing())
		p := open(t, tr, l, "DEALER", 0)
		message := append(longFrame(1, ""), longFrame(0, "tiny")...)
		p.write(message)
		p.want(message) // forwarded as it came: nothing is re-encoded
	})
}

// TestManyTinyMessages fills a read buffer with messages of two octets: what the
// handler answers must not be taken for the backlog of a peer that does not read.
func TestManyTinyMessages(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		h := echoing()
		h.then = func(b *Batch, c *Conn, m *Msg) {
			if err := c.Send(b, nil, m.Body(0)); err != nil {
				t.Errorf("send: %v", err)
			}
		}
		l := listen(t, tr, Config{}, h)
		p := open(t, tr, l, "DEALER", 0)
		// What was sent before is read, so that a read buffer of messages is all that waits.
		many := bytes.Repeat([]byte{0, 0}, 20_000)
		for range 5 {
			p.write(many)
			p.want(many)
		}
	})
}

// TestSubscriptions speaks both forms to publishers that see one.
func TestSubscriptions(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		long := strings.Repeat("p", 300)
		for _, own := range []SocketType{Pub, XPub} {
			for _, peer := range []string{"SUB", "XSUB"} {
				h := newRecorder()
				l := listen(t, tr, Config{Type: own}, h)
				p := open(t, tr, l, peer, 1)
				p.write(frame(0, "\x01a"), commandFrame("SUBSCRIBE", "a"), frame(0, "\x00a"), commandFrame("CANCEL", "a"),
					commandFrame("SUBSCRIBE", ""), frame(0, "\x01"), commandFrame("SUBSCRIBE", long),
					frame(0, "upstream"), frame(0, ""), append(frame(1, "\x01x"), frame(0, "y")...), commandFrame("JOIN", "g"),
					frame(0, "\x00end"))
				for _, want := range []string{"\x01a", "\x01a", "\x00a", "\x00a", "\x01", "\x01", "\x01" + long, "\x00end"} {
					if got := receive(t, h.messages); !slices.Equal(got.frames, []string{want}) {
						t.Errorf("%s from %s: got %q, want %q", own, peer, got.frames, want)
					}
				}
				if got := l.Counters().IgnoredMessages; got != 4 {
					t.Errorf("%d ignored, want 4", got)
				}
				send(t, receive(t, h.opened), "topic", "body")
				p.want(frame(1, "topic"), frame(0, "body"))
			}
		}
	})
}

// TestSubscribing is the other side: what a subscriber sends, and gets.
func TestSubscribing(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server, client := newRecorder(), newRecorder()
		l := listen(t, tr, Config{Type: XPub}, server)
		c := dial(t, tr, l, Config{Type: Sub}, client)
		send(t, c, "\x01topic")
		if got := receive(t, server.messages); got.frames[0] != "\x01topic" {
			t.Errorf("got %q", got.frames)
		}
		send(t, receive(t, server.opened), "topic/1", "body")
		if got := receive(t, client.messages); !slices.Equal(got.frames, []string{"topic/1", "body"}) {
			t.Errorf("got %q", got.frames)
		}
	})
}

// TestPeerErrorIsReported has the peer's words in the reason, fit for a log.
func TestPeerErrorIsReported(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		h := newRecorder()
		l := listen(t, tr, Config{}, h)
		open(t, tr, l, "DEALER", 0).write(commandFrame("ERROR", "\x0fgo away\n\x1b[31mnow"))
		err := receive(t, h.closed)
		if !errors.Is(err, ErrPeerError) || !strings.Contains(err.Error(), `"go away??[31mnow"`) {
			t.Errorf("closed for %q", err)
		}
	})
}
