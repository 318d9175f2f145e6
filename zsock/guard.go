package zsock

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	greetingSize     = 64
	maxHandshakeBody = 2 << 10 // octets of one command before READY
	lastLook         = 50 * time.Millisecond
)

// guard stands between a stranger and zmq4 during the handshake. zmq4 reads only
// what the guard has checked and rewritten: the greeting, then one command frame
// at a time. Octets behind the last command stay in the guard for the codec.
type guard struct {
	net.Conn
	ctx  context.Context // of the handshake, which is this value's whole life
	mech mechanism

	in      []byte // received, not yet checked
	checked []byte // released to zmq4
	out     []byte // written by zmq4, not yet a whole unit
	greeted bool   // the peer's greeting is checked
	sent    bool   // our greeting is written
	looked  bool   // the last look was taken
	err     error  // the first refusal; stays
}

// Read releases checked octets only.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.checked) == 0 {
		if g.err == nil {
			g.err = g.advance()
		}
		if g.err != nil {
			return 0, g.err
		}
	}
	n := copy(p, g.checked)
	g.checked = g.checked[n:]
	return n, nil
}

func (g *guard) advance() error {
	if !g.greeted {
		return g.greeting()
	}
	return g.command()
}

// greeting reads the peer's greeting and releases one that says only what zmq4
// needs: version 3.0 and our mechanism.
func (g *guard) greeting() error {
	for have := 0; have < greetingSize; have = len(g.in) {
		if err := g.fill(greetingSize); err != nil {
			return err
		}
		if err := checkSignature(g.in); err != nil {
			return err
		}
	}
	var mech [20]byte
	copy(mech[:], g.mech.Type())
	if !bytes.Equal(mech[:], g.in[12:32]) {
		return fmt.Errorf("%w: it wants %q, this side %s", ErrMechanism, printable(bytes.TrimRight(g.in[12:32], "\x00")), g.mech.Type())
	}
	clean := make([]byte, greetingSize)
	clean[0], clean[9], clean[10] = 0xff, 0x7f, 3
	copy(clean[12:32], mech[:])
	g.checked, g.greeted = clean, true
	g.in = g.in[greetingSize:]
	return nil
}

// checkSignature refuses what cannot become a ZMTP 3 greeting as early as it shows
// (RFC 23, version negotiation).
func checkSignature(p []byte) error {
	switch {
	case p[0] != 0xff:
		return fmt.Errorf("%w: or version 1.0: first octet %02x", ErrSignature, p[0])
	case len(p) > 9 && p[9]&1 == 0:
		return fmt.Errorf("%w: 1.0", ErrVersion)
	case len(p) > 9 && p[9] != 0x7f:
		return fmt.Errorf("%w: tenth octet %02x", ErrSignature, p[9])
	case len(p) > 10 && p[10] < 3:
		return fmt.Errorf("%w: revision octet %02x", ErrVersion, p[10])
	}
	return nil
}

// command reads one command frame, has it checked, and releases it in its
// shortest form.
func (g *guard) command() error {
	head, n, err := g.commandHeader()
	if err != nil {
		return err
	}
	if err := g.fill(head + n); err != nil {
		return err
	}
	name, body, ok := splitCommand(g.in[head : head+n])
	if !ok {
		return fmt.Errorf("%w: command name runs past the end", ErrMetadata)
	}
	if body, err = g.mech.admit(name, body); err != nil {
		return err
	}
	g.in = g.in[head+n:]
	g.checked = appendHeader(nil, flagCommand, 1+len(name)+len(body))
	g.checked = append(g.checked, byte(len(name)))
	g.checked = append(append(g.checked, name...), body...)
	return nil
}

func (g *guard) commandHeader() (head, n int, err error) {
	if err := g.fill(2); err != nil {
		return 0, 0, err
	}
	flags, size := g.in[0], uint64(g.in[1])
	head = 2
	if flags != flagCommand && flags != flagCommand|flagLong {
		return 0, 0, fmt.Errorf("%w: frame flags %02x before READY", ErrMetadata, flags)
	}
	if flags&flagLong != 0 {
		head = maxHeader
		if err := g.fill(head); err != nil {
			return 0, 0, err
		}
		size = binary.BigEndian.Uint64(g.in[1:])
	}
	if size > maxHandshakeBody {
		return 0, 0, fmt.Errorf("%w: command of %d octets before READY, limit %d", ErrMetadata, size, maxHandshakeBody)
	}
	return head, int(size), nil
}

// fill reads until n octets are there. It may read more, never more than fit.
func (g *guard) fill(n int) error {
	if cap(g.in) < n || cap(g.in) == 0 {
		g.in = append(make([]byte, 0, max(n, 512)), g.in...)
	}
	for len(g.in) < n {
		k, err := g.Conn.Read(g.in[len(g.in):cap(g.in)])
		g.in = g.in[:len(g.in)+k]
		if k > 0 && !g.greeted {
			return nil // the greeting is looked at as it comes
		}
		if err != nil && len(g.in) < n {
			if isTimeout(err) && g.lastLook() {
				continue
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// lastLook extends the handshake once, by a moment: what the peer said in time may
// lie unread in the kernel because this process did not get to run.
func (g *guard) lastLook() bool {
	if g.looked || g.ctx.Err() != nil {
		return false
	}
	g.looked = true
	setDeadline(g.ctx, g.Conn, time.Now().Add(lastLook))
	return true
}

// Write passes the greeting at once and then whole frames: zmq4 writes header and
// body apart, and two small segments cost a round of delayed acknowledgement.
func (g *guard) Write(p []byte) (int, error) {
	g.out = append(g.out, p...)
	n := greetingSize
	if g.sent {
		n = frameSize(g.out)
	}
	if len(g.out) < n {
		return len(p), nil
	}
	g.sent = true
	_, err := g.Conn.Write(g.out)
	g.out = g.out[:0]
	return len(p), err
}

// frameSize is the length of the frame whose header p begins with.
func frameSize(p []byte) int {
	if len(p) < 2 {
		return 2
	}
	if p[0]&flagLong == 0 {
		return 2 + int(p[1])
	}
	if len(p) < maxHeader {
		return maxHeader
	}
	return maxHeader + int(binary.BigEndian.Uint64(p[1:]))
}

// splitCommand splits a command's body into name and data (RFC 23).
func splitCommand(p []byte) (name string, data []byte, ok bool) {
	if len(p) == 0 || len(p) < 1+int(p[0]) {
		return "", nil, false
	}
	n := 1 + int(p[0])
	return string(p[1:n]), p[n:], true
}

// printable makes what a stranger sent fit for a log line.
func printable(p []byte) string {
	p = p[:min(len(p), 255)]
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, p))
}
