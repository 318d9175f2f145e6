package zsock

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/zsock/memsock"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come; it is never reached in a
// test that passes.
const patience = 30 * time.Second

// transport is a byte stream that the suite runs over.
type transport struct {
	name     string
	network  Network
	endpoint string
	shared   bool
}

func transports() []transport {
	return []transport{
		{"tcp", nil, "tcp://127.0.0.1:0", false},
		{"tcp shared", nil, "tcp://127.0.0.1:0", true},
		{"ipc", nil, "ipc://*", false},
		{"ipc shared", nil, "ipc://*", true},
		{"memsock", memsock.New(), "tcp://broker:0", false},
	}
}

// overAll runs f over every transport, in parallel.
func overAll(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	t.Parallel()
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			f(t, tr)
		})
	}
}

// message is what a recorder keeps of a message.
type message struct {
	from   *Conn
	frames []string
}

// recorder is a handler that hands everything to the test.
type recorder struct {
	opened   chan *Conn
	messages chan message
	closed   chan error
	then     func(b *Batch, c *Conn, m *Msg) // runs in Message, if set
	hold     chan struct{}                   // Opened waits for it to be closed, if set
}

func newRecorder() *recorder {
	return &recorder{opened: make(chan *Conn, 4096), messages: make(chan message, 4096), closed: make(chan error, 4096)}
}

// echoing is a recorder that answers every message with itself.
func echoing() *recorder {
	r := newRecorder()
	r.then = func(b *Batch, c *Conn, m *Msg) { _ = c.Send(b, nil, m.Body(0)) }
	return r
}

func (r *recorder) Opened(c *Conn) {
	r.opened <- c
	if r.hold != nil {
		<-r.hold
	}
}

func (r *recorder) Message(b *Batch, c *Conn, m *Msg) {
	if r.then != nil {
		r.then(b, c, m)
		return
	}
	kept := message{from: c}
	for _, f := range m.Frames() {
		kept.frames = append(kept.frames, string(f))
	}
	r.messages <- kept
}

func (r *recorder) Closed(_ *Batch, _ *Conn, err error) { r.closed <- err }

// receive waits for the next value of ch.
func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %T within %v", *new(T), patience)
		panic("unreachable")
	}
}

// listen runs a listener until the test ends.
func listen(t testing.TB, tr transport, cfg Config, h Handler) *Listener {
	t.Helper()
	if cfg.Type == "" {
		cfg.Type = Router
	}
	cfg.Network, cfg.Shared = tr.network, tr.shared
	l, err := Listen(tr.endpoint, cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, done); err != nil {
			t.Errorf("listener: %v", err)
		}
	})
	return l
}

// dial connects to l and runs the connection until the test ends.
func dial(t testing.TB, tr transport, l *Listener, cfg Config, h Handler) *Conn {
	t.Helper()
	if cfg.Type == "" {
		cfg.Type = Dealer
	}
	cfg.Network, cfg.Shared = tr.network, tr.shared
	c, err := Dial(context.Background(), l.Endpoint(), cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(context.Background()) }()
	t.Cleanup(func() {
		c.Close(nil)
		receive(t, done)
	})
	return c
}

// send sends frames in a message of their own and flushes.
func send(t testing.TB, c *Conn, frames ...string) {
	t.Helper()
	var b Batch
	if err := c.Send(&b, octets(frames), Body{}); err != nil {
		t.Fatalf("send: %v", err)
	}
	b.Flush()
}

func octets(frames []string) [][]byte {
	out := make([][]byte, len(frames))
	for i, f := range frames {
		out[i] = []byte(f)
	}
	return out
}

// connect is a raw byte stream to l.
func connect(t testing.TB, tr transport, l *Listener) net.Conn {
	t.Helper()
	n := tr.network
	if n == nil {
		n = system{}
	}
	nc, err := n.Dial(context.Background(), l.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return nc
}
