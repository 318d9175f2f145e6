//go:build !race

package worker_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

// feeder is a broker that sends a run of requests and notes when all are answered;
// it allocates nothing.
type feeder struct {
	conn   chan *zsock.Conn
	done   chan struct{}
	left   atomic.Int32
	cmd    mdp.Command
	head   [mdp.MaxHead]byte
	frames [2][]byte
}

func (*feeder) Opened(*zsock.Conn)                      {}
func (*feeder) Closed(*zsock.Batch, *zsock.Conn, error) {}

func (f *feeder) Message(b *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &f.cmd); err != nil {
		return
	}
	switch f.cmd.Kind {
	case mdp.Hello:
		f.cmd = mdp.Command{Role: mdp.Worker, Kind: mdp.Welcome, Dialect: mdp.Native, Map: mdp.EncodeMap(welcome)}
		_ = c.Send(b, mdp.Append(nil, f.head[:], &f.cmd), zsock.Body{})
		f.conn <- c
	case mdp.Final:
		if f.left.Add(-1) == 0 {
			f.done <- struct{}{}
		}
	}
}

// run sends n requests in one write and waits for their finals.
func (f *feeder) run(c *zsock.Conn, b *zsock.Batch, body zsock.Body, n int) {
	f.left.Store(int32(n))
	for i := range n {
		cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Request, Dialect: mdp.Native, Service: service}
		cmd.Head.Token, cmd.Head.Attempt, cmd.Head.Remaining = uint64(i), 1, 10_000
		_ = c.Send(b, mdp.Append(f.frames[:0], f.head[:], &cmd), body)
	}
	b.Flush()
	<-f.done
}

var service = []byte("echo")

// The library adds a share of an allocation to a request: they are made in batches.
func TestAllocationsPerRequest(t *testing.T) {
	f := &feeder{conn: make(chan *zsock.Conn, 1), done: make(chan struct{}, 1)}
	l, err := zsock.Listen("tcp://127.0.0.1:0", zsock.Config{Type: zsock.Router}, f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- l.Run(ctx) }()
	const n = 64
	w, err := worker.New(worker.Config{Brokers: []string{l.Endpoint()}, Service: "echo", Handler: echo, Concurrency: n})
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- w.Run(ctx) }()
	conn := <-f.conn
	var b zsock.Batch
	body := zsock.NewBody(make([]byte, 64))
	allocations := testing.AllocsPerRun(100, func() { f.run(conn, &b, body, n) })
	if limit := 0.2 * n; allocations > limit {
		t.Errorf("%v allocations for %d requests, want %v at most", allocations, n, limit)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	body.Release()
}
