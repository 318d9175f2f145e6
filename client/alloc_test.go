//go:build !race

package client_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/mdmesh/mdmesh/client"
)

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

// A large answer that is released costs the Reply; the memory comes back, but for what
// a collection takes from the pools.
func TestAllocationsOfReleasedReply(t *testing.T) {
	c := withMirror(t)
	call := client.Call{Service: "echo", Body: [][]byte{make([]byte, 64<<10)}}
	do := func() {
		reply, err := c.Do(context.Background(), call)
		if err != nil {
			t.Fatal(err)
		}
		reply.Release()
	}
	for range 100 {
		do() // fills the pools
	}
	const calls = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		do()
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / calls; n > 2<<10 {
		t.Errorf("%d octets allocated per call, want those of a Reply", n)
	}
	if n := float64(after.Mallocs-before.Mallocs) / calls; n > 2 {
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
