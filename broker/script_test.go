package broker

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guard is how long a script waits for what must come. In a bubble that is the
// bubble's time, which passes only when everything waits.
const guard = 10 * time.Minute

// mesh is a network with brokers and scripted peers.
type mesh struct {
	t   testing.TB
	net *memsock.Net
}

// inBubble runs a script with the bubble's clock and a network in memory.
func inBubble(t *testing.T, script func(m *mesh)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { script(&mesh{t, memsock.New()}) })
}

// broker starts a broker that listens on tcp://NAME:1, and stops it in the end.
func (m *mesh) broker(name string, options ...func(*Config)) *Broker {
	m.t.Helper()
	b, _ := m.mortal(name, options...)
	return b
}

// mortal is broker, with what stops it and waits until it has.
func (m *mesh) mortal(name string, options ...func(*Config)) (*Broker, func()) {
	m.t.Helper()
	cfg := Config{Name: name, Listen: []string{"tcp://" + name + ":1"}, Network: m.net.Host(name), Logger: hclog.NewNullLogger()}
	for _, option := range options {
		option(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		m.t.Fatalf("new broker: %v", err)
	}
	if _, err := b.Listen(); err != nil {
		m.t.Fatalf("listen: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	var once atomic.Bool
	stopped := make(chan struct{})
	stop := func() {
		if once.CompareAndSwap(false, true) {
			cancel()
			if err := <-ended; err != nil {
				m.t.Errorf("broker %s: %v", name, err)
			}
			close(stopped)
		}
		<-stopped
	}
	m.t.Cleanup(stop)
	return b, stop
}

// peers makes a broker dial others by their names.
func peers(names ...string) func(*Config) {
	return func(c *Config) {
		for _, n := range names {
			c.Peers = append(c.Peers, "tcp://"+n+":1")
		}
	}
}

// peer is one scripted connection to a broker: client, worker, or another broker.
type peer struct {
	m       *mesh
	z       *zsock.Conn
	role    mdp.Role
	dialect mdp.Dialect
	mute    atomic.Bool // answers no heartbeats
	got     chan *message
	beats   chan *message
	closed  chan struct{}
	cancel  context.CancelFunc
	tokens  uint64
	counter byte
}

// message is what a peer got, in memory of its own.
type message struct {
	mdp.Command
	frames [][]byte
}

func (m *message) body() string {
	return string(bytes.Join(m.frames[m.Body:], []byte("|")))
}

func (m *message) err() error { return mdp.AnswerError(&m.Command) }

func (p *peer) Opened(*zsock.Conn) {}

func (p *peer) Message(batch *zsock.Batch, z *zsock.Conn, in *zsock.Msg) {
	m := &message{}
	for _, f := range in.Frames() {
		m.frames = append(m.frames, bytes.Clone(f))
	}
	if err := mdp.Decode(m.frames, mdp.AtEndpoint, &m.Command); err != nil {
		m.Command = mdp.Command{Role: p.role, Dialect: p.dialect} // kind 0: left to the script
	}
	if m.Kind == mdp.Heartbeat {
		select {
		case p.beats <- m:
		default:
		}
		p.beat(batch, m)
		return
	}
	p.got <- m
}

// beat answers a heartbeat; that of a broker with its echo.
func (p *peer) beat(batch *zsock.Batch, m *message) {
	switch {
	case p.mute.Load() || m.Head.Flags&mdp.FlagNeed != 0:
	case p.role == mdp.Peer:
		p.write(batch, mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: m.Head.Token, Flags: mdp.FlagNeed}})
	default:
		p.write(batch, mdp.Command{Kind: mdp.Heartbeat, Head: mdp.Head{Token: m.Head.Token}}) // a probe with its echo
	}
}

func (p *peer) Closed(*zsock.Batch, *zsock.Conn, error) { close(p.closed) }

// dial connects to the broker from a host of the given name.
func (m *mesh) dial(to *Broker, from string, role mdp.Role, dialect mdp.Dialect) *peer {
	m.t.Helper()
	p := &peer{m: m, role: role, dialect: dialect, got: make(chan *message, 100_000), beats: make(chan *message, 100), closed: make(chan struct{})}
	var network zsock.Network
	if m.net != nil {
		network = m.net.Host(from)
	}
	z, err := zsock.Dial(context.Background(), to.Bound()[0].Endpoint, zsock.Config{Type: zsock.Dealer, Network: network}, p)
	if err != nil {
		m.t.Fatalf("dial: %v", err)
	}
	p.z = z
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go z.Run(ctx)
	m.t.Cleanup(p.close)
	return p
}

// client is a native client that has said HELLO.
func (m *mesh) client(b *Broker, instance string) *peer {
	m.t.Helper()
	p := m.dial(b, "client-"+instance, mdp.Client, mdp.Native)
	p.send(mdp.Command{Kind: mdp.Hello, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: instance})})
	p.expect(mdp.Welcome)
	return p
}

// worker is a native worker that is ready.
func (m *mesh) worker(b *Broker, service string, credit int, options ...func(*mdp.HelloMap)) *peer {
	m.t.Helper()
	p := m.dial(b, "worker", mdp.Worker, mdp.Native)
	hello := mdp.HelloMap{Instance: "w", Concurrency: credit, Reads: true}
	for _, option := range options {
		option(&hello)
	}
	p.send(mdp.Command{Kind: mdp.Hello, Service: []byte(service), Head: mdp.Head{Status: uint16(credit)}, Map: mdp.EncodeMap(&hello)})
	if err := p.expect(mdp.Welcome).err(); err != nil {
		m.t.Fatalf("worker refused: %v", err)
	}
	return p
}

func localScope(h *mdp.HelloMap) { h.Scope = "local" }

// foreignWorker is a worker of MDP/0.1 or 0.2 that has said READY.
func (m *mesh) foreignWorker(b *Broker, service string, dialect mdp.Dialect) *peer {
	m.t.Helper()
	p := m.dial(b, "worker", mdp.Worker, dialect)
	p.send(mdp.Command{Kind: mdp.Ready, Service: []byte(service)})
	m.settle()
	return p
}

// settle lets everything happen that does not wait for time.
func (m *mesh) settle() { synctest.Wait() }

// pass lets time pass.
func (m *mesh) pass(d time.Duration) {
	time.Sleep(d) // the bubble's time: nothing really waits
	synctest.Wait()
}

func (p *peer) close() {
	p.cancel()
	<-p.closed
}

// send writes one command at once.
func (p *peer) send(cmd mdp.Command, body ...string) {
	p.m.t.Helper()
	var batch zsock.Batch
	if err := p.write(&batch, cmd, body...); err != nil {
		p.m.t.Fatalf("send %v: %v", cmd.Kind, err)
	}
	batch.Flush()
}

func (p *peer) write(batch *zsock.Batch, cmd mdp.Command, body ...string) error {
	if cmd.Role == 0 {
		cmd.Role = p.role
	}
	if cmd.Dialect == 0 {
		cmd.Dialect = p.dialect
	}
	cmd.Delimited = cmd.Dialect == mdp.V01 || cmd.Dialect == mdp.Majortomo || cmd.Dialect == mdp.Bare
	head := mdp.Append(nil, make([]byte, mdp.MaxHead), &cmd)
	var frames [][]byte
	for _, f := range body {
		frames = append(frames, []byte(f))
	}
	encoded := zsock.NewBody(frames...)
	defer encoded.Release()
	return p.z.Send(batch, head, encoded)
}

// raw writes frames as they are.
func (p *peer) raw(frames ...string) {
	p.m.t.Helper()
	var head [][]byte
	for _, f := range frames {
		head = append(head, []byte(f))
	}
	var batch zsock.Batch
	if err := p.z.Send(&batch, head, zsock.Body{}); err != nil {
		p.m.t.Fatalf("send: %v", err)
	}
	batch.Flush()
}

// next waits for the next message that is no heartbeat.
func (p *peer) next() *message {
	p.m.t.Helper()
	timeout := time.NewTimer(guard)
	defer timeout.Stop()
	select {
	case m := <-p.got:
		return m
	case <-timeout.C:
		p.m.t.Fatal("no message came")
	}
	return nil
}

// expect is next, which must be of this kind.
func (p *peer) expect(kind mdp.Kind) *message {
	p.m.t.Helper()
	m := p.next()
	if m.Kind != kind {
		p.m.t.Fatalf("got %v %q, want %v", m.Kind, m.frames, kind)
	}
	return m
}

// quiet fails the test if anything but heartbeats has come.
func (p *peer) quiet() {
	p.m.t.Helper()
	p.m.settle()
	select {
	case m := <-p.got:
		p.m.t.Fatalf("unexpected %v: %q", m.Kind, m.frames)
	default:
	}
}

// gone fails the test unless the broker has closed the connection.
func (p *peer) gone() {
	p.m.t.Helper()
	p.m.settle()
	select {
	case <-p.closed:
	default:
		p.m.t.Fatal("the connection is still open")
	}
}

// alive fails the test if the broker has closed the connection.
func (p *peer) alive() {
	p.m.t.Helper()
	p.m.settle()
	select {
	case <-p.closed:
		p.m.t.Fatal("the connection was closed")
	default:
	}
}

// A requestOption changes the head of a request.
type requestOption func(*mdp.Head)

func within(d time.Duration) requestOption {
	return func(h *mdp.Head) { h.Remaining = uint32(d / time.Millisecond) }
}

func flags(f uint8) requestOption { return func(h *mdp.Head) { h.Flags |= f } }

func asID(id byte) requestOption { return func(h *mdp.Head) { h.ID[15] = id } }

// ask sends a request of a native client and returns its head.
func (p *peer) ask(service, body string, options ...requestOption) mdp.Head {
	p.m.t.Helper()
	p.tokens++
	p.counter++
	h := mdp.Head{Token: p.tokens, Attempt: 1, ID: mdp.RequestID{1, 15: p.counter}}
	for _, o := range options {
		o(&h)
	}
	p.send(mdp.Command{Kind: mdp.Request, Service: []byte(service), Head: h}, body)
	return h
}

func (p *peer) cancelRequest(h mdp.Head) {
	p.m.t.Helper()
	p.send(mdp.Command{Kind: mdp.Cancel, Head: mdp.Head{Token: h.Token, ID: h.ID}})
}

// take waits for a request at a worker.
func (p *peer) take() *message {
	p.m.t.Helper()
	return p.expect(mdp.Request)
}

// answer sends a FINAL, or a PARTIAL, for a request the worker took.
func (p *peer) answer(to *message, body ...string)  { p.reply(mdp.Final, to, body...) }
func (p *peer) partial(to *message, body ...string) { p.reply(mdp.Partial, to, body...) }

func (p *peer) reply(kind mdp.Kind, to *message, body ...string) {
	p.m.t.Helper()
	p.send(mdp.Command{Kind: kind, Address: to.Address, Head: mdp.Head{Token: to.Head.Token, ID: to.Head.ID}}, body...)
}

// refuse answers a request with an error.
func (p *peer) refuse(to *message, err *mdp.Error) {
	p.m.t.Helper()
	cmd := mdp.Command{Kind: mdp.Final, Head: mdp.Head{Token: to.Head.Token, ID: to.Head.ID}}
	cmd.SetError(err)
	p.send(cmd)
}

// answered waits for the FINAL of a request and checks status and body.
func (p *peer) answered(h mdp.Head, status mdp.Status, body string) *message {
	p.m.t.Helper()
	m := p.expect(mdp.Final)
	if m.Head.Token != h.Token || m.Head.ID != h.ID {
		p.m.t.Fatalf("answer to token %d id %v, want %d %v", m.Head.Token, m.Head.ID, h.Token, h.ID)
	}
	if mdp.Status(m.Head.Status) != status || (status == mdp.OK && m.body() != body) {
		p.m.t.Fatalf("answer %v %q (%v), want %v %q", mdp.Status(m.Head.Status), m.body(), m.err(), status, body)
	}
	return m
}

// failed is answered with an error that must say whether the request may have run.
func (p *peer) failed(h mdp.Head, status mdp.Status, mayHaveRun bool) *mdp.Error {
	p.m.t.Helper()
	e := p.answered(h, status, "").err().(*mdp.Error)
	if e.MayHaveRun != mayHaveRun {
		p.m.t.Fatalf("%v: may have run is %t, want %t", e, e.MayHaveRun, mayHaveRun)
	}
	return e
}
