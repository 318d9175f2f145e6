package zsock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-zeromq/zmq4"
)

const maxIdentity = 255

// Names of commands and properties (RFC 23, 37). Properties are compared without
// case and released to zmq4 as written here.
const (
	cmdReady     = "READY"
	cmdError     = "ERROR"
	cmdPing      = "PING"
	cmdPong      = "PONG"
	cmdSubscribe = "SUBSCRIBE"
	cmdCancel    = "CANCEL"

	propSocketType = "Socket-Type"
	propIdentity   = "Identity"
)

// Peer is who is at the other end of a connection.
type Peer struct {
	Type     SocketType // what the peer announced
	Identity []byte     // what the peer claims; empty, repeated and forged ones are all possible
	Remote   string     // network address
}

// link is a connection after its handshake.
type link struct {
	nc     net.Conn
	peer   Peer
	sealer sealer
	rest   []byte // octets that came behind READY
}

// shake does the whole handshake on nc within cfg.HandshakeTimeout or until ctx
// ends, which also cuts short what is said to a peer that is refused. It closes nc
// when it fails.
func shake(ctx context.Context, nc net.Conn, cfg *Config, server bool) (*link, error) {
	tune(nc)
	deadline := time.Now().Add(cfg.HandshakeTimeout)
	_ = nc.SetDeadline(deadline.Add(-min(lastLook, cfg.HandshakeTimeout/2))) // the last look is within the time
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(longAgo) })
	defer stop()
	g := &guard{Conn: nc, ctx: ctx, mech: cfg.mechanism(cfg.Type, server)}
	l, err := openGuarded(g, cfg, server)
	if err == nil && stop() {
		_ = nc.SetDeadline(time.Time{})
		return l, nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if g.sent && (errors.Is(err, ErrMetadata) || errors.Is(err, ErrSocketType) || errors.Is(err, ErrIdentity)) {
		setDeadline(ctx, nc, earlier(deadline, time.Now().Add(lingerTime)))
		sayError(nc, err)
	}
	_ = nc.Close()
	return nil, classify(err)
}

// setDeadline bounds what comes next on nc. The end of ctx, which sets one as well, goes
// before it: it may have come in between, and is not to be overruled.
func setDeadline(ctx context.Context, nc net.Conn, t time.Time) {
	_ = nc.SetDeadline(t)
	if ctx.Err() != nil {
		_ = nc.SetDeadline(longAgo)
	}
}

// openGuarded runs zmq4's handshake over g. The recover is the second line: the
// guard is there so that it never has anything to do.
func openGuarded(g *guard, cfg *Config, server bool) (l *link, err error) {
	defer func() {
		if r := recover(); r != nil {
			l, err = nil, fmt.Errorf("%w: panic: %v", ErrMetadata, r)
		}
	}()
	zc, err := zmq4.Open(g, g.mech, zmq4.SocketType(cfg.Type), nil, server, nil)
	if err != nil {
		if g.err != nil {
			err = g.err // zmq4 need not keep the chain
		}
		return nil, err
	}
	return &link{
		nc: g.Conn,
		peer: Peer{
			Type:     SocketType(zc.Peer.Meta[propSocketType]),
			Identity: []byte(zc.Peer.Meta[propIdentity]),
			Remote:   remoteName(g.Conn),
		},
		sealer: g.mech.sealer(),
		rest:   g.in,
	}, nil
}

// remoteName is the peer's network address. Those who dial a socket file have none:
// the file's stands for them.
func remoteName(nc net.Conn) string {
	a, ok := nc.RemoteAddr().(*net.UnixAddr)
	switch {
	case !ok:
		return nc.RemoteAddr().String()
	case a.Name == "" || a.Name == "@":
		return ipcScheme + nc.LocalAddr().String()
	}
	return ipcScheme + a.Name
}

// classify gives every failure of a handshake its reason.
func classify(err error) error {
	switch {
	case errors.Is(err, ErrHandshake), errors.Is(err, context.Canceled):
		return err
	case isTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrHandshakeTimeout, err)
	case errors.Is(err, ErrPeerError):
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	case isGone(err):
		return fmt.Errorf("%w: %w: %w", ErrHandshake, ErrPeerClosed, err)
	default:
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
}

// sayError tells the peer why it is refused. It then reads a little of what the
// peer still sends: closing with unread octets would make the kernel take the
// ERROR command back. The deadlines of nc bound it all: until it is over, the handshake is not.
func sayError(nc net.Conn, why error) {
	text := why.Error()
	text = text[:min(len(text), 255)]
	body := append([]byte{byte(len(cmdError))}, cmdError...)
	body = append(append(body, byte(len(text))), text...)
	if _, err := nc.Write(appendFrame(nil, flagCommand, body)); err != nil {
		return
	}
	if w, ok := nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, nc, 64<<10)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// null is the NULL mechanism: no authentication, nothing sealed.
type null struct{ own SocketType }

func newNull(own SocketType, _ bool) mechanism { return null{own} }

func (null) Type() zmq4.SecurityType                       { return zmq4.NullSecurity }
func (null) Encrypt(w io.Writer, data []byte) (int, error) { return w.Write(data) }
func (null) Decrypt(w io.Writer, data []byte) (int, error) { return w.Write(data) }
func (null) sealer() sealer                                { return nil }

// Handshake sends READY without waiting for the peer's: peers of 3.0 and of 3.1
// are both content with that.
func (null) Handshake(conn *zmq4.Conn, _ bool) error {
	meta, err := conn.Meta.MarshalZMTP()
	if err != nil {
		return err
	}
	if err := conn.SendCmd(cmdReady, meta); err != nil {
		return err
	}
	cmd, err := conn.RecvCmd()
	if err != nil {
		return err
	}
	return conn.Peer.Meta.UnmarshalZMTP(cmd.Body)
}

func (m null) admit(name string, body []byte) ([]byte, error) {
	switch name {
	case cmdReady:
		return checkReady(m.own, body)
	case cmdError:
		return nil, peerError(body)
	default:
		return nil, fmt.Errorf("%w: command %q instead of READY", ErrMetadata, printable([]byte(name)))
	}
}

// peerError is what an ERROR command says.
func peerError(body []byte) error {
	if len(body) > 0 {
		body = body[1:]
	}
	return fmt.Errorf("%w: %q", ErrPeerError, printable(body))
}

// checkReady checks the metadata of a READY command against what own may talk to,
// and returns metadata with the two properties zmq4 reads, in its spelling.
func checkReady(own SocketType, meta []byte) ([]byte, error) {
	var peerType SocketType
	var identity []byte
	for seen := 0; len(meta) > 0; seen++ {
		name, value, rest, ok := nextProperty(meta)
		if !ok {
			return nil, fmt.Errorf("%w: property %d runs past the end", ErrMetadata, seen)
		}
		switch {
		case strings.EqualFold(name, propSocketType):
			peerType = SocketType(value)
		case strings.EqualFold(name, propIdentity):
			identity = value
		}
		meta = rest
	}
	if !slices.Contains(talksTo[own], peerType) {
		return nil, fmt.Errorf("%w: %q to %s", ErrSocketType, printable([]byte(peerType)), own)
	}
	if len(identity) > maxIdentity || len(identity) > 0 && identity[0] == 0 {
		return nil, fmt.Errorf("%w: %d octets: at most %d, the first not 00", ErrIdentity, len(identity), maxIdentity)
	}
	clean := appendProperty(nil, propSocketType, []byte(peerType))
	return appendProperty(clean, propIdentity, identity), nil
}

// nextProperty splits metadata into its first property and the rest.
func nextProperty(p []byte) (name string, value, rest []byte, ok bool) {
	n := 1 + int(p[0])
	if p[0] == 0 || len(p) < n+4 {
		return "", nil, nil, false
	}
	size := uint64(binary.BigEndian.Uint32(p[n:]))
	if size > uint64(len(p)-n-4) {
		return "", nil, nil, false
	}
	end := n + 4 + int(size)
	return string(p[1:n]), p[n+4 : end], p[end:], true
}

func appendProperty(dst []byte, name string, value []byte) []byte {
	dst = append(append(dst, byte(len(name))), name...)
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
}
