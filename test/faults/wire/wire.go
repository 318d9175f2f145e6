// Package wire speaks the native protocol octet by octet over a plain TCP socket, as
// docs/PROTOCOL.md says it and without our own transport: for peers that lie, and
// for thousands of peers without a goroutine each.
//
// The one invariant: nothing happens that was not called for; there are no
// goroutines, no heartbeats, no retries. Start reading at Dial.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Peer is one connection. It is for one goroutine at a time.
type Peer struct {
	net.Conn
	in *bufio.Reader
}

// Message is what the other side said.
type Message struct {
	mdp.Command
	Frames [][]byte // behind the head and the map
}

// Greeting is the 64 octets a ZMTP 3 peer begins with.
func Greeting() []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10], g[11] = 0xff, 0x7f, 3, 0
	copy(g[12:], "NULL")
	return g
}

// Ready is the READY command of a socket type, such as DEALER.
func Ready(socketType string) []byte {
	body := "\x05READY" + "\x0bSocket-Type" + string(binary.BigEndian.AppendUint32(nil, uint32(len(socketType)))) + socketType
	return append([]byte{4, byte(len(body))}, body...)
}

// Dial connects to an endpoint and shakes hands as a DEALER, within timeout.
func Dial(endpoint string, timeout time.Duration) (*Peer, error) {
	nc, err := net.DialTimeout("tcp", strings.TrimPrefix(endpoint, "tcp://"), timeout)
	if err != nil {
		return nil, err
	}
	p := &Peer{nc, bufio.NewReaderSize(nc, 1024)}
	_ = nc.SetDeadline(time.Now().Add(timeout))
	if err := p.shake(); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	_ = nc.SetDeadline(time.Time{})
	return p, nil
}

func (p *Peer) shake() error {
	if _, err := p.Write(append(Greeting(), Ready("DEALER")...)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, p.in, 64); err != nil {
		return err
	}
	_, _, err := p.frame()
	return err
}

// Frame is one ZMTP frame; more tells that others of the message follow.
func Frame(payload []byte, more bool) []byte {
	flags := byte(0)
	if more {
		flags = 1
	}
	if len(payload) < 256 {
		return append([]byte{flags, byte(len(payload))}, payload...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{flags | 2}, uint64(len(payload))), payload...)
}

// Encode is a command and its body as octets.
func Encode(c mdp.Command, body ...[]byte) (out []byte) {
	if c.Dialect == 0 {
		c.Dialect = mdp.Native
	}
	frames := append(mdp.Append(nil, make([]byte, mdp.MaxHead), &c), body...)
	for i, f := range frames {
		out = append(out, Frame(f, i < len(frames)-1)...)
	}
	return out
}

// Send writes a command and its body.
func (p *Peer) Send(c mdp.Command, body ...[]byte) error {
	_, err := p.Write(Encode(c, body...))
	return err
}

// Hello says who we are, as a client (service "") or as a worker, and reads the
// answer.
func (p *Peer) Hello(service, instance string, concurrency int) (*Message, error) {
	c := mdp.Command{Role: mdp.Client, Kind: mdp.Hello}
	hello := mdp.HelloMap{Instance: instance, Revision: mdp.Revision}
	if service != "" {
		c.Role, c.Service, c.Head.Status = mdp.Worker, []byte(service), uint16(concurrency)
		hello.Concurrency, hello.Reads = concurrency, true
	}
	c.Map = mdp.EncodeMap(&hello)
	if err := p.Send(c); err != nil {
		return nil, err
	}
	m, err := p.Recv(time.Minute)
	if err == nil && m.Kind != mdp.Welcome {
		err = fmt.Errorf("%v instead of WELCOME", m.Kind)
	}
	return m, err
}

// ErrCommand is a ZMTP command where a message was expected.
var ErrCommand = errors.New("a ZMTP command")

// Recv reads the next message that is no heartbeat.
func (p *Peer) Recv(timeout time.Duration) (*Message, error) {
	_ = p.SetReadDeadline(time.Now().Add(timeout))
	for {
		m := &Message{}
		for more := true; more; {
			flags, payload, err := p.frame()
			if err != nil {
				return nil, err
			}
			if flags&4 != 0 {
				return nil, ErrCommand
			}
			m.Frames = append(m.Frames, payload)
			more = flags&1 != 0
		}
		if err := mdp.Decode(m.Frames, mdp.AtEndpoint, &m.Command); err != nil {
			return nil, err
		}
		m.Frames = m.Frames[m.Body:]
		if m.Kind != mdp.Heartbeat {
			return m, nil
		}
	}
}

// Await waits until something comes, and beats meanwhile as a client must that waits
// for an answer.
func (p *Peer) Await(timeout time.Duration) error {
	for end := time.Now().Add(timeout); ; {
		_ = p.SetReadDeadline(time.Now().Add(time.Second))
		_, err := p.in.Peek(1)
		var late net.Error
		if err == nil || !errors.As(err, &late) || !late.Timeout() || time.Now().After(end) {
			return err
		}
		if err := p.Send(mdp.Command{Role: mdp.Client, Kind: mdp.Heartbeat}); err != nil {
			return err
		}
	}
}

func (p *Peer) frame() (flags byte, payload []byte, err error) {
	var head [9]byte
	if _, err = io.ReadFull(p.in, head[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	if head[0]&2 != 0 {
		if _, err = io.ReadFull(p.in, head[2:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(head[1:])
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.in, payload)
	return head[0], payload, err
}
