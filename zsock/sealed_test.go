package zsock

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-zeromq/zmq4"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// xor is a security for tests: a counter, the flags, and the payload under a mask,
// so that order, flags and content of every frame are checked. It protects nothing.
type xor struct {
	null
	sent, got uint32
}

func newXOR(own SocketType, _ bool) mechanism { return &xor{null: null{own}} }

func (*xor) Type() zmq4.SecurityType { return "XOR" }
func (x *xor) sealer() sealer        { return x }
func (*xor) overhead() int           { return 5 }

func (x *xor) seal(dst []byte, flags byte, payload []byte) ([]byte, error) {
	x.sent++
	dst = append(binary.BigEndian.AppendUint32(dst, x.sent), flags)
	return masked(dst, payload), nil
}

func (x *xor) open(dst []byte, box []byte) (byte, []byte, error) {
	if x.got++; binary.BigEndian.Uint32(box) != x.got {
		return 0, nil, errors.New("out of order")
	}
	return box[4], masked(dst, box[5:]), nil
}

var mask = bytes.Repeat([]byte{0xaa}, 4096)

// masked appends p under the mask. It does so in blocks: octet by octet the race
// detector makes 10 MiB last for seconds.
func masked(dst, p []byte) []byte {
	from := len(dst)
	dst = append(dst, p...)
	for rest := dst[from:]; len(rest) > 0; {
		rest = rest[subtle.XORBytes(rest, rest, mask[:min(len(rest), len(mask))]):]
	}
	return dst
}

func TestSealedShapes(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		testShapes(t, tr, Config{mechanism: newXOR})
	})
}

func TestSealedCommands(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{mechanism: newXOR}, echoing())
		x := new(xor)
		sealed := func(flags byte, payload string) []byte {
			box, _ := x.seal(nil, flags, []byte(payload))
			return frame(0, string(box))
		}
		p := &rawPeer{Conn: connect(t, tr, l), t: t}
		p.write(greeting(0, "XOR"), ready("DEALER"),
			sealed(1, "a"), sealed(4, "\x04PING\x00\x00ctx"), sealed(4, "\x05OTHER"), sealed(0, "b"))
		p.take(64)
		p.frame()
		var got []string
		for range 3 {
			_, box := p.frame()
			flags, plain, err := x.open(nil, box)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string('0'+flags)+string(plain))
		}
		if want := []string{"4\x04PONGctx", "1a", "0b"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := l.Counters().IgnoredMessages; n != 1 {
			t.Errorf("%d ignored", n)
		}
	})
}

func TestSealedViolations(t *testing.T) {
	box := func(counter uint32, flags byte, payload string) []byte {
		x := &xor{sent: counter - 1}
		b, _ := x.seal(nil, flags, []byte(payload))
		return frame(0, string(b))
	}
	more := func(n int) (out []byte) {
		for i := range n {
			out = append(out, box(uint32(i+1), 1, "x")...)
		}
		return out
	}
	cases := map[string]struct {
		says []byte
		why  error
	}{
		"short box":       {frame(0, "1234"), ErrSeal},
		"replay":          {append(box(1, 0, "x"), box(1, 0, "x")...), ErrSeal},
		"reordered":       {box(2, 0, "x"), ErrSeal},
		"reserved flags":  {box(1, 2, "x"), ErrSeal},
		"too many frames": {more(11), ErrTooManyFrames},
		"too big":         {announce(0, 1000+5+1), ErrTooBig},
		"too big in sum":  {append(box(1, 1, strings.Repeat("x", 600)), box(2, 0, strings.Repeat("x", 600))...), ErrTooBig},
	}
	overAll(t, func(t *testing.T, tr transport) {
		for name, v := range cases {
			h := newRecorder()
			l := listen(t, tr, Config{mechanism: newXOR, MaxMessage: 1000, MaxFrames: 10}, h)
			p := &rawPeer{Conn: connect(t, tr, l), t: t}
			p.write(greeting(0, "XOR"), ready("DEALER"), v.says)
			if err := receive(t, h.closed); !errors.Is(err, v.why) {
				t.Errorf("%s: closed for %v", name, err)
			}
		}
		r := &refuser{newRecorder(), make(chan string, 10)}
		p := &rawPeer{Conn: connect(t, tr, listen(t, tr, Config{mechanism: newXOR, MaxMessage: 1000}, r)), t: t}
		p.write(greeting(0, "XOR"), ready("DEALER"), box(1, 1, "head"), box(2, 0, strings.Repeat("x", 999)))
		if first := receive(t, r.refused); first != "head" {
			t.Errorf("told of %q", first)
		}
		h := newRecorder()
		l := listen(t, tr, Config{mechanism: newXOR}, h)
		if _, err := Dial(t.Context(), l.Endpoint(), Config{Type: Dealer, Network: tr.network}, h); !errors.Is(err, ErrHandshake) {
			t.Errorf("NULL to a sealed listener: %v", err)
		}
	})
}

// TestPermit has the first message raise the bound on those behind it.
func TestPermit(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		for name, mechanism := range map[string]func(SocketType, bool) mechanism{"NULL": nil, "XOR": newXOR} {
			h := newRecorder()
			sizes := make(chan int, 10)
			h.then = func(_ *Batch, c *Conn, m *Msg) {
				c.Permit(2000)
				sizes <- m.Size()
			}
			l := listen(t, tr, Config{mechanism: mechanism, MaxMessage: 1000}, h)
			c := dial(t, tr, l, Config{mechanism: mechanism}, newRecorder())
			for _, n := range []int{1000, 2000, 2001} {
				send(t, c, strings.Repeat("x", n-500), strings.Repeat("y", 500))
			}
			if err := receive(t, h.closed); !errors.Is(err, ErrTooBig) || len(sizes) != 2 {
				t.Errorf("%s: closed for %v after %d messages", name, err, len(sizes))
			}
		}
	})
}

// TestSealedPongs has a peer ping that does not read.
func TestSealedPongs(t *testing.T) {
	bubble(t, func(t *testing.T, n *memsock.Net, tr transport) {
		h := newRecorder()
		l := listen(t, tr, Config{mechanism: newXOR}, h)
		p := &rawPeer{Conn: connect(t, tr, l), t: t}
		p.write(greeting(0, "XOR"), ready("DEALER"))
		s := receive(t, h.opened)
		send(t, s, strings.Repeat("a", 200_000))
		synctest.Wait() // half of it is written
		_, before := s.Queued()
		x := new(xor)
		for range 1000 {
			box, _ := x.seal(nil, flagCommand, []byte("\x04PING\x00\x00flood"))
			p.write(frame(0, string(box)))
		}
		synctest.Wait()
		if _, after := s.Queued(); after-before > 2*maxPongs || after == before {
			t.Errorf("%d octets of PONGs are queued", after-before)
		}
		if dropped := l.Counters().DroppedPongs; dropped < 900 {
			t.Errorf("%d PONGs were dropped", dropped)
		}
	})
}
