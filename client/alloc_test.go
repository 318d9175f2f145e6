//go:build !race

package client_test

import (
	"context"
	"testing"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// mirror is a broker that answers every request itself and allocates nothing.
type mirror struct {
	cmd   mdp.Command
	head  [mdp.MaxHead]byte
	frame [1][]byte
}

func (*mirror) Opened(*zsock.Conn)        {}
func (*mirror) Closed(*zsock.Batch, *zsock.Conn, error) {}

func (e *mirror) Message(b *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &e.cmd); err != nil || e.cmd.Kind != mdp.Request {
		return
	}
	body := m.Body(e.cmd.Body)
	e.cmd.Kind, e.cmd.Service = mdp.Final, nil
	_ = c.Send(b, mdp.Append(e.frame[:0], e.head[:], &e.cmd), body)
}

// withMirror returns a client of a mirror, over TCP.
func withMirror(t testing.TB) *client.Client {
	l, err := zsock.Listen("tcp://127.0.0.1:0", zsock.Config{Type: zsock.Router}, new(mirror))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.Run(ctx)
	}()
	c, err := client.New(client.Config{Brokers: []string{l.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		cancel()
		<-ended
	})
	return c
}

// A call allocates its answer: frames and octets in one, if they are few.
func TestAllocationsOfCall(t *testing.T) {
	c, body := withMirror(t), make([]byte, 64)
	call := func() {
		if _, err := c.Call(context.Background(), "echo", body); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		call() // fills the pools
	}
	if n := testing.AllocsPerRun(1000, call); n > 2 {
		t.Errorf("%v allocations per call, want 1 and the odd one of a pool", n)
	}
}

// BenchmarkClient is the client's own cost: the other end answers by itself.
func BenchmarkClient(b *testing.B) {
	c, body := withMirror(b), make([]byte, 64)
	b.Run("1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Call(context.Background(), "echo", body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("128", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Call(context.Background(), "echo", body); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("128 async", func(b *testing.B) {
		b.ReportAllocs()
		done := make(chan *client.Pending, 128)
		for range min(b.N, 128) {
			c.Go(context.Background(), client.Call{Service: "echo", Body: [][]byte{body}}, done)
		}
		for n := b.N - min(b.N, 128); n > 0; n-- {
			<-done
			c.Go(context.Background(), client.Call{Service: "echo", Body: [][]byte{body}}, done)
		}
		for range min(b.N, 128) {
			<-done
		}
	})
}
