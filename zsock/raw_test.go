package zsock

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// Wire octets as a foreign peer would make them, written out here on their own so
// that the tests do not trust the code they test.

// greeting is 64 octets of ZMTP 3 with the given minor version and mechanism.
func greeting(minor byte, mechanism string) []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10], g[11] = 0xff, 0x7f, 3, minor
	copy(g[12:32], mechanism)
	return g
}

// frame is one frame in its shortest form.
func frame(flags byte, payload string) []byte {
	if len(payload) > 255 {
		return longFrame(flags, payload)
	}
	return append([]byte{flags, byte(len(payload))}, payload...)
}

// longFrame is one frame with an eight-octet length.
func longFrame(flags byte, payload string) []byte {
	return append(announce(flags, uint64(len(payload))), payload...)
}

// announce is the header of a frame of n octets.
func announce(flags byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | 2}, n)
}

func commandFrame(name, data string) []byte {
	return frame(4, string(rune(len(name)))+name+data)
}

func property(name, value string) string {
	return string(rune(len(name))) + name + string(binary.BigEndian.AppendUint32(nil, uint32(len(value)))) + value
}

// ready is the READY command of a peer of the given type.
func ready(socketType string) []byte {
	return commandFrame("READY", property("Socket-Type", socketType))
}

// rawPeer is a foreign peer, octet by octet.
type rawPeer struct {
	net.Conn
	t testing.TB
}

// open shakes hands with l as a peer of the given type and minor version.
func open(t testing.TB, tr transport, l *Listener, socketType string, minor byte) *rawPeer {
	t.Helper()
	p := &rawPeer{Conn: connect(t, tr, l), t: t}
	p.write(greeting(minor, "NULL"), ready(socketType))
	if g := p.take(64); g[0] != 0xff || g[10] != 3 {
		t.Fatalf("greeting % x", g)
	}
	if f, body := p.frame(); f != 4 || !bytes.HasPrefix(body, []byte("\x05READY")) {
		t.Fatalf("flags %d, %q instead of READY", f, body)
	}
	return p
}

func (p *rawPeer) write(parts ...[]byte) {
	p.t.Helper()
	if _, err := p.Write(bytes.Join(parts, nil)); err != nil {
		p.t.Fatalf("raw write: %v", err)
	}
}

func (p *rawPeer) take(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(p, b); err != nil {
		p.t.Fatalf("raw read: %v", err)
	}
	return b
}

// frame reads one frame; LONG is taken off the flags.
func (p *rawPeer) frame() (flags byte, payload []byte) {
	p.t.Helper()
	h := p.take(2)
	n := uint64(h[1])
	if h[0]&2 != 0 {
		n = binary.BigEndian.Uint64(append(h[1:], p.take(7)...))
	}
	return h[0] &^ 2, p.take(int(n))
}

// want reads frames and compares them with those in wire.
func (p *rawPeer) want(wire ...[]byte) {
	p.t.Helper()
	expect := bytes.Join(wire, nil)
	if got := p.take(len(expect)); !bytes.Equal(got, expect) {
		p.t.Fatalf("got % .100x\nwant % .100x", got, expect)
	}
}

// ended waits until this side ended the connection and returns what came before.
func (p *rawPeer) ended() []byte {
	p.t.Helper()
	rest, err := io.ReadAll(p)
	if err != nil && !isGone(err) {
		p.t.Fatalf("connection was not ended: %v", err)
	}
	return rest
}
