package zsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"
)

// script is a connection whose peer says what is written down, in pieces.
type script struct {
	says  []byte
	piece int
}

type scriptAddr struct{}

func (scriptAddr) Network() string { return "script" }
func (scriptAddr) String() string  { return "script" }

func (s *script) Read(p []byte) (int, error) {
	if len(s.says) == 0 {
		return 0, io.EOF
	}
	if s.piece > 0 {
		p = p[:min(len(p), s.piece)]
	}
	n := copy(p, s.says)
	s.says = s.says[n:]
	return n, nil
}

func (*script) Write(p []byte) (int, error)      { return len(p), nil }
func (*script) Close() error                     { return nil }
func (*script) LocalAddr() net.Addr              { return scriptAddr{} }
func (*script) RemoteAddr() net.Addr             { return scriptAddr{} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// fuzzConfig has small limits, so that they are met.
func fuzzConfig(t testing.TB, own SocketType) *Config {
	t.Helper()
	cfg, err := Config{Type: own, MaxMessage: 200_000, MaxFrames: 50}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &cfg
}

// shakeScript runs a handshake and checks what must hold whatever the peer says.
func shakeScript(t *testing.T, says []byte, piece int) (*link, error) {
	t.Helper()
	cfg := fuzzConfig(t, Router)
	peer := &script{says: says, piece: piece}
	g := &guard{Conn: peer, ctx: context.Background(), mech: newNull(Router, true)}
	l, err := openGuarded(g, cfg, true)
	if err != nil {
		if strings.Contains(err.Error(), "panic") {
			t.Fatalf("the guard let something through: %v", err)
		}
		return nil, err
	}
	if !slices.Contains(talksTo[Router], l.peer.Type) || len(l.peer.Identity) > maxIdentity || bytes.HasPrefix(l.peer.Identity, []byte{0}) {
		t.Fatalf("let in: %+v", l.peer)
	}
	if !bytes.HasSuffix(says, slices.Concat(l.rest, peer.says)) {
		t.Fatalf("octets behind READY changed: % x", l.rest)
	}
	return l, nil
}

func addHandshakes(f *testing.F, cut int) {
	for _, r := range refusals {
		f.Add(r.says[min(cut, len(r.says)):], 1)
	}
	f.Add(say(ready("DEALER"), frame(0, "first"))[cut:], 0)
	f.Add(say(longFrame(4, "\x05READY"+property("socket-TYPE", "REQ")+property("Identity", "me")))[cut:], 7)
}

func FuzzGreeting(f *testing.F) {
	addHandshakes(f, 0)
	f.Fuzz(func(t *testing.T, says []byte, piece int) {
		_, whole := shakeScript(t, says, 0)
		_, cut := shakeScript(t, says, max(1, piece%100))
		if reasonName(classify(errorOr(whole))) != reasonName(classify(errorOr(cut))) {
			t.Fatalf("%v at once, %v in pieces", whole, cut)
		}
	})
}

func errorOr(err error) error {
	if err == nil {
		return errors.New("none")
	}
	return err
}

func FuzzHandshake(f *testing.F) {
	addHandshakes(f, greetingSize)
	f.Fuzz(func(t *testing.T, says []byte, piece int) {
		_, _ = shakeScript(t, append(greeting(0, "NULL"), says...), max(0, piece%100))
	})
}

func FuzzReady(f *testing.F) {
	f.Add([]byte(property("Socket-Type", "DEALER") + property("identity", "x") + property("X-Y", "")))
	f.Add([]byte("\x0bSocket-Type\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, meta []byte) {
		clean, err := checkReady(Router, meta)
		if err != nil {
			return
		}
		md := make(zmq4.Metadata)
		if err := md.UnmarshalZMTP(clean); err != nil || md[propSocketType] == "" {
			t.Fatalf("zmq4 makes %v, %v of what was let through", md, err)
		}
	})
}

// readScript runs a connection over what the peer says and returns what was
// delivered, which must be within the bounds, and why it ended.
func readScript(t *testing.T, own SocketType, says []byte, piece int, s func(SocketType, bool) mechanism) ([][]string, error) {
	t.Helper()
	var got [][]string
	cfg := fuzzConfig(t, own)
	h := &recorder{opened: make(chan *Conn, 1), closed: make(chan error, 1)}
	h.then = func(b *Batch, c *Conn, m *Msg) {
		var frames []string
		size := 0
		for _, f := range m.Frames() {
			frames = append(frames, string(f))
			size += len(f)
		}
		if size != m.Size() || m.Body(0).Frames() != len(frames) {
			t.Fatalf("size %d of %d, %d frames of %d", m.Size(), size, m.Body(0).Frames(), len(frames))
		}
		if int64(size) > cfg.MaxMessage || len(frames) > cfg.MaxFrames {
			t.Fatalf("delivered %d octets in %d frames, permitted are %d in %d", size, len(frames), cfg.MaxMessage, cfg.MaxFrames)
		}
		held := m.Body(0).Hold()
		for i, f := range held.Append(nil) {
			if string(f) != frames[i] {
				t.Fatalf("frame %d is %q as a frame and %q in the body", i, frames[i], f)
			}
		}
		held.Release()
		got = append(got, frames)
	}
	var seal sealer
	if s != nil {
		seal = s(own, true).sealer()
	}
	c := newConn(&link{nc: &script{says: says, piece: piece}, sealer: seal}, cfg, h, new(tally))
	why := c.run()
	return got, why
}

func FuzzFrames(f *testing.F) {
	for _, v := range violations {
		f.Add(v.says, 1)
	}
	f.Add(append(frame(1, "a"), frame(0, strings.Repeat("b", 70_000))...), 1000)
	f.Add(longFrame(0, strings.Repeat("c", 200_000)), 0)
	f.Add(longFrame(0, strings.Repeat("c", 200_001)), 0)
	f.Add(append(bytes.Repeat(frame(1, "m"), 49), frame(0, "m")...), 3)
	f.Add(append(bytes.Repeat(frame(1, "m"), 50), frame(0, "m")...), 3)
	f.Add(append(frame(1, strings.Repeat("a", 20_000)), append(commandFrame("PING", "\x00\x00c"), frame(0, "")...)...), 3000)
	f.Fuzz(func(t *testing.T, says []byte, piece int) {
		whole, why := readScript(t, Router, says, 0, nil)
		cut, whyCut := readScript(t, Router, says, max(1, piece%70_000), nil)
		if !slices.EqualFunc(whole, cut, slices.Equal[[]string]) || reasonName(why) != reasonName(whyCut) {
			t.Fatalf("at once: %d messages, %v; in pieces: %d messages, %v", len(whole), why, len(cut), whyCut)
		}
		// What was delivered comes out the same when it is sent on.
		var wire []byte
		for _, frames := range whole {
			b := NewBody(octets(frames)...)
			wire = append(wire, b.wire...)
			b.Release()
		}
		if again, _ := readScript(t, Router, wire, 0, nil); !slices.EqualFunc(whole, again, slices.Equal[[]string]) {
			t.Fatalf("%q became %q", whole, again)
		}
	})
}

// sealed is one message: each connection counts its boxes from one.
func sealed(payloads ...string) (says []byte) {
	x := new(xor)
	for i, p := range payloads {
		flags := byte(flagMore)
		if i == len(payloads)-1 {
			flags = 0
		}
		box, _ := x.seal(nil, flags, []byte(p))
		says = append(says, frame(0, string(box))...)
	}
	return says
}

func FuzzSealedFrames(f *testing.F) {
	for _, payload := range []string{"", "a", strings.Repeat("b", 300), strings.Repeat("c", 20_000)} {
		f.Add(sealed(payload, payload), 100)
	}
	f.Add(sealed(slices.Repeat([]string{"m"}, 50)...), 3)
	f.Add(sealed(slices.Repeat([]string{"m"}, 51)...), 3)
	f.Add(sealed(slices.Repeat([]string{strings.Repeat("c", 100_000)}, 2)...), 0)
	f.Add(sealed(strings.Repeat("c", 100_000), strings.Repeat("c", 100_001)), 0)
	f.Fuzz(func(t *testing.T, says []byte, piece int) {
		whole, why := readScript(t, Router, says, 0, newXOR)
		cut, whyCut := readScript(t, Router, says, max(1, piece%70_000), newXOR)
		if !slices.EqualFunc(whole, cut, slices.Equal[[]string]) || reasonName(why) != reasonName(whyCut) {
			t.Fatalf("at once: %d messages, %v; in pieces: %d messages, %v", len(whole), why, len(cut), whyCut)
		}
	})
}

func FuzzSubscriptions(f *testing.F) {
	f.Add(frame(0, "\x01topic"))
	f.Add(append(commandFrame("SUBSCRIBE", "topic"), commandFrame("CANCEL", "topic")...))
	f.Add(append(frame(1, "\x01"), frame(0, "upstream")...))
	f.Fuzz(func(t *testing.T, says []byte) {
		got, _ := readScript(t, XPub, says, 0, nil)
		for _, frames := range got {
			if len(frames) != 1 || len(frames[0]) == 0 || frames[0][0] > 1 {
				t.Fatalf("delivered %q", frames)
			}
		}
	})
}
