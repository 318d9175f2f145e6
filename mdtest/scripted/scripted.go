// Package scripted is a broker that does what a test tells it to, message by
// message, for tests of what talks to a broker.
//
// The one invariant: apart from WELCOME and heartbeats, which can be switched off,
// nothing is sent but by the test. Start at Start and Broker.Next.
package scripted

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// guard is how long a test waits for what must come. In a synctest bubble this is
// time of the bubble, which passes only when everything waits.
const guard = 10 * time.Minute

// Config says what a scripted broker does by itself.
type Config struct {
	Endpoint string        // where to listen, such as tcp://127.0.0.1:0
	Network  zsock.Network // nil: TCP
	Type     zsock.SocketType
	// Welcome answers HELLOs; nil: Hello or the test does.
	Welcome *mdp.WelcomeMap
	// Hello is called for each HELLO, by the connection's reader, and nothing else is
	// done with it.
	Hello func(*Message)
	// Silent switches heartbeats off.
	Silent bool
}

// Broker is a running scripted broker.
type Broker struct {
	Endpoint string
	cfg      Config
	t        testing.TB
	arrived  chan *Message
	cancel   context.CancelFunc
	ended    chan struct{}

	mu       sync.Mutex
	sessions []*Session
}

// Session is one connection to the broker.
type Session struct {
	Conn *zsock.Conn
	// Heartbeats counts those that have come.
	Heartbeats atomic.Int64
	// Echo is the token of the last one that had one: the answer to a probe.
	Echo atomic.Uint64
	// Silent stops the answers to heartbeats from now on.
	Silent atomic.Bool
	// Closed is closed when the connection has ended.
	Closed chan struct{}
	b      *Broker
	role   atomic.Uint32
}

// Message is one message that has come, in memory of its own.
type Message struct {
	mdp.Command
	Body    [][]byte // or, of something that is not native, all frames
	Session *Session
}

// Start starts a broker, and stops it when the test is over.
func Start(t testing.TB, cfg Config) *Broker {
	t.Helper()
	if cfg.Type == "" {
		cfg.Type = zsock.Router
	}
	b := &Broker{cfg: cfg, t: t, arrived: make(chan *Message, 100_000), ended: make(chan struct{})}
	l, err := zsock.Listen(cfg.Endpoint, zsock.Config{Type: cfg.Type, Network: cfg.Network, HighWaterMessages: 1 << 20}, b)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	b.Endpoint = l.Endpoint()
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() {
		defer close(b.ended)
		_ = l.Run(ctx)
	}()
	t.Cleanup(b.Stop)
	return b
}

// Stop ends the broker and its connections. It may be called again.
func (b *Broker) Stop() {
	b.cancel()
	<-b.ended
}

// Opened implements zsock.Handler.
func (b *Broker) Opened(c *zsock.Conn) {
	s := &Session{Conn: c, Closed: make(chan struct{}), b: b}
	c.User = s
	b.mu.Lock()
	b.sessions = append(b.sessions, s)
	b.mu.Unlock()
}

// Sessions returns all connections there have been, in order.
func (b *Broker) Sessions() []*Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*Session(nil), b.sessions...)
}

// Message implements zsock.Handler.
func (b *Broker) Message(batch *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	s := c.User.(*Session)
	msg := &Message{Session: s}
	var frames [][]byte
	for _, f := range m.Frames() {
		frames = append(frames, bytes.Clone(f))
	}
	if err := mdp.Decode(frames, mdp.AtBroker, &msg.Command); err != nil {
		msg.Command = mdp.Command{}
	}
	msg.Body = frames[msg.Command.Body:]
	if msg.Role != 0 {
		s.role.Store(uint32(msg.Role))
	}
	switch {
	case msg.Kind == mdp.Heartbeat:
		s.Heartbeats.Add(1)
		if msg.Head.Token != 0 {
			s.Echo.Store(msg.Head.Token)
		}
		if !b.cfg.Silent && !s.Silent.Load() {
			s.send(batch, mdp.Command{Kind: mdp.Heartbeat})
		}
		return
	case msg.Kind == mdp.Hello && b.cfg.Hello != nil:
		b.cfg.Hello(msg)
		return
	case msg.Kind == mdp.Hello && b.cfg.Welcome != nil:
		s.send(batch, mdp.Command{Kind: mdp.Welcome, Map: mdp.EncodeMap(b.cfg.Welcome)})
	}
	b.arrived <- msg
}

// Closed implements zsock.Handler.
func (b *Broker) Closed(_ *zsock.Batch, c *zsock.Conn, _ error) { close(c.User.(*Session).Closed) }

// Next waits for the next message that is no heartbeat.
func (b *Broker) Next() *Message {
	b.t.Helper()
	timeout := time.NewTimer(guard)
	defer timeout.Stop()
	select {
	case m := <-b.arrived:
		return m
	case <-timeout.C:
		b.t.Fatalf("%s: no message came", b.Endpoint)
		return nil
	}
}

// Expect waits for the next message, which must be of this kind.
func (b *Broker) Expect(kind mdp.Kind) *Message {
	b.t.Helper()
	m := b.Next()
	if m.Kind != kind {
		b.t.Fatalf("%s: a %v came, want %v", b.Endpoint, m.Kind, kind)
	}
	return m
}

// None fails the test if a message has come that was not looked at.
func (b *Broker) None() {
	b.t.Helper()
	select {
	case m := <-b.arrived:
		b.t.Errorf("%s: a %v came, want nothing", b.Endpoint, m.Kind)
	default:
	}
}

// Send sends a native command with body frames, for the session's role.
func (s *Session) Send(cmd mdp.Command, body ...[]byte) {
	var batch zsock.Batch
	s.send(&batch, cmd, body...)
	batch.Flush()
}

// SendAll sends commands without bodies so that they arrive together.
func (s *Session) SendAll(cmds ...mdp.Command) {
	var batch zsock.Batch
	for _, cmd := range cmds {
		s.send(&batch, cmd)
	}
	batch.Flush()
}

func (s *Session) send(batch *zsock.Batch, cmd mdp.Command, body ...[]byte) {
	cmd.Dialect, cmd.Role = mdp.Native, mdp.Role(s.role.Load())
	encoded := zsock.NewBody(body...)
	defer encoded.Release()
	if err := s.Conn.Send(batch, mdp.Append(nil, make([]byte, mdp.MaxHead), &cmd), encoded); err != nil {
		s.b.t.Logf("%s: send %v: %v", s.b.Endpoint, cmd.Kind, err)
	}
}

// Answer sends a partial or final for the request m.
func (m *Message) Answer(kind mdp.Kind, body ...[]byte) {
	cmd := mdp.Command{Kind: kind}
	cmd.Head.Token, cmd.Head.ID, cmd.Head.Attempt = m.Head.Token, m.Head.ID, m.Head.Attempt
	m.Session.Send(cmd, body...)
}

// Fail sends a final with an error for the request m.
func (m *Message) Fail(e *mdp.Error) {
	cmd := mdp.Command{Kind: mdp.Final}
	cmd.Head.Token, cmd.Head.ID, cmd.Head.Attempt = m.Head.Token, m.Head.ID, m.Head.Attempt
	cmd.SetError(e)
	m.Session.Send(cmd)
}
