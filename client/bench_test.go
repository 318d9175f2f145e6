package client_test

import (
	"context"
	"testing"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/worker"
)

func echo(_ context.Context, r *worker.Request) ([][]byte, error) { return r.Body, nil }

// BenchmarkCall makes calls of 64 octets over TCP loopback through a real broker in
// this process; allocations are those of client, broker and worker together.
func BenchmarkCall(b *testing.B) {
	mesh := mdtest.StartBroker(b, func(c *broker.Config) { c.Logger = nil })
	mdtest.StartWorker(b, mesh, "echo", echo, func(c *worker.Config) { c.Concurrency, c.Logger = 128, nil })
	c := mdtest.Client(b, mesh, func(c *client.Config) { c.Logger = nil })
	body := make([]byte, 64)
	call := func(b *testing.B) {
		if _, err := c.Call(context.Background(), "echo", body); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			call(b)
		}
	})
	b.Run("128", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				call(b)
			}
		})
	})
	b.Run("128-async", func(b *testing.B) {
		b.ReportAllocs()
		done := make(chan *client.Pending, 128)
		out := 0
		for range b.N {
			if out == 128 {
				if p := <-done; p.Err != nil {
					b.Fatal(p.Err)
				}
				out--
			}
			c.Go(context.Background(), client.Call{Service: "echo", Body: [][]byte{body}}, done)
			out++
		}
		for ; out > 0; out-- {
			<-done
		}
	})
}
