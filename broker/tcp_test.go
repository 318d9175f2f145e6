package broker

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// overTCP starts a broker on a free port of the loopback, linked with others.
func overTCP(t testing.TB, name string, others ...*Broker) *Broker {
	t.Helper()
	cfg := Config{Name: name, Listen: []string{"tcp://127.0.0.1:0"}, Logger: hclog.NewNullLogger()}
	for _, o := range others {
		cfg.Peers = append(cfg.Peers, o.Bound()[0].Endpoint)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// echoWorker answers every request with its body.
type echoWorker struct{ ready chan struct{} }

func (*echoWorker) Opened(*zsock.Conn) {}
func (e *echoWorker) Message(batch *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	var cmd mdp.Command
	if err := mdp.Decode(m.Frames(), mdp.AtEndpoint, &cmd); err != nil {
		panic(err)
	}
	switch cmd.Kind {
	case mdp.Welcome:
		close(e.ready)
	case mdp.Request:
		reply(batch, c, &mdp.Command{Role: mdp.Worker, Kind: mdp.Final, Dialect: mdp.Native, Head: mdp.Head{Token: cmd.Head.Token, ID: cmd.Head.ID}}, m.Body(cmd.Body))
	case mdp.Heartbeat:
		reply(batch, c, &mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: mdp.Native}, zsock.Body{})
	}
}
func (*echoWorker) Closed(*zsock.Batch, *zsock.Conn, error) {}

func reply(batch *zsock.Batch, c *zsock.Conn, cmd *mdp.Command, body zsock.Body) {
	room := roomOf(batch) // the benchmarks' peers must not allocate either
	if err := c.Send(batch, mdp.Append(room.frames[:0], room.scratch[:], cmd), body); err != nil {
		panic(err)
	}
}

var echoService = []byte("echo")

// caller keeps a number of requests in flight until enough were answered.
type caller struct {
	body   zsock.Body
	left   *atomic.Int64 // to be asked, shared by all callers
	done   chan struct{}
	flying int
	bad    atomic.Int64
}

func (c *caller) Opened(z *zsock.Conn) {}
func (c *caller) Message(batch *zsock.Batch, z *zsock.Conn, m *zsock.Msg) {
	var cmd mdp.Command
	if err := mdp.Decode(m.Frames(), mdp.AtEndpoint, &cmd); err != nil {
		panic(err)
	}
	switch cmd.Kind {
	case mdp.Heartbeat:
		reply(batch, z, &mdp.Command{Role: mdp.Client, Kind: mdp.Heartbeat, Dialect: mdp.Native}, zsock.Body{})
	case mdp.Final:
		if cmd.Head.Status != 0 || m.Body(cmd.Body).Size() != c.body.Size() {
			c.bad.Add(1)
		}
		if c.left.Add(-1) >= 0 {
			c.ask(batch, z, cmd.Head.Token)
		} else if c.flying--; c.flying == 0 {
			close(c.done)
		}
	}
}
func (c *caller) Closed(*zsock.Batch, *zsock.Conn, error) {}

func (c *caller) ask(batch *zsock.Batch, z *zsock.Conn, token uint64) {
	cmd := mdp.Command{Role: mdp.Client, Kind: mdp.Request, Dialect: mdp.Native, Service: echoService, Head: mdp.Head{Token: token, Attempt: 1, Remaining: 60_000}}
	binary.BigEndian.PutUint64(cmd.Head.ID[8:], token)
	reply(batch, z, &cmd, c.body)
}

// connect dials over TCP and runs the handler.
func connect(t testing.TB, b *Broker, h zsock.Handler) *zsock.Conn {
	t.Helper()
	z, err := zsock.Dial(t.Context(), b.Bound()[0].Endpoint, zsock.Config{Type: zsock.Dealer}, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { z.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return z
}

func hire(t testing.TB, b *Broker, credit int) {
	t.Helper()
	w := &echoWorker{ready: make(chan struct{})}
	z := connect(t, b, w)
	var batch zsock.Batch
	reply(&batch, z, &mdp.Command{Role: mdp.Worker, Kind: mdp.Hello, Dialect: mdp.Native, Service: []byte("echo"), Head: mdp.Head{Status: uint16(credit)},
		Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "w", Reads: true})}, zsock.Body{})
	batch.Flush()
	<-w.ready
}

// callAll makes calls over some connections, each with some in flight, and waits.
func callAll(t testing.TB, b *Broker, connections, inflight int, calls int64) {
	t.Helper()
	var left atomic.Int64
	left.Store(calls - int64(connections*inflight))
	body := zsock.NewBody(make([]byte, 64))
	defer body.Release()
	var callers []*caller
	for range connections {
		c := &caller{body: body, left: &left, done: make(chan struct{}), flying: inflight}
		callers = append(callers, c)
		z := connect(t, b, c)
		var batch zsock.Batch
		for i := range inflight {
			c.ask(&batch, z, uint64(i+1))
		}
		batch.Flush()
	}
	timeout := time.After(2 * time.Minute)
	for _, c := range callers {
		select {
		case <-c.done:
		case <-timeout:
			t.Fatal("calls were not answered")
		}
		if n := c.bad.Load(); n > 0 {
			t.Fatalf("%d bad answers", n)
		}
	}
}

// Two brokers over real sockets: what one is asked, the workers of the other do.
func TestTwoBrokersOverTCP(t *testing.T) {
	t.Parallel()
	b := overTCP(t, "b")
	a := overTCP(t, "a", b)
	hire(t, b, 8)
	guard := time.After(30 * time.Second)
	for !a.offers([]byte("echo")) {
		select {
		case <-guard:
			t.Fatal("the link did not come up")
		case <-time.After(time.Millisecond):
		}
	}
	callAll(t, a, 4, 4, 2000)
	if n := a.Counters()["offloaded"]; n != 2000 {
		t.Errorf("%d offloaded", n)
	}
	for _, x := range []*Broker{a, b} {
		if n := x.held.Load(); n != 0 {
			t.Errorf("%s holds %d octets", x.name, n)
		}
	}
}

// Shape ii: one connection with 128 in flight, one worker.
func BenchmarkShapeII(b *testing.B) {
	broker := overTCP(b, "b")
	hire(b, broker, 128)
	b.ReportAllocs()
	b.ResetTimer()
	callAll(b, broker, 1, 128, max(int64(b.N), 128))
}

// Shape iii: 64 connections with 4 in flight each, 8 workers of 32 at once.
func BenchmarkShapeIII(b *testing.B) {
	broker := overTCP(b, "b")
	for range 8 {
		hire(b, broker, 32)
	}
	b.ReportAllocs()
	b.ResetTimer()
	callAll(b, broker, 64, 4, max(int64(b.N), 256))
}
