//go:build !race

package zsock

// What messages and connections cost. Pools drop values at random under the race
// detector, so these are built without it only.

import (
	"runtime"
	"strings"
	"testing"
)

// TestSteadyStateAllocatesNothing counts what the whole process allocates while
// messages go to an echo and back over TCP.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for i, size := range []int{64, 4 << 10, 64 << 10, 64, 4 << 10, 64 << 10} {
		tr := transports()[i/3]
		l := listen(t, tr, Config{}, &echoServer{})
		back := make(chan struct{}, 1)
		h := &recorder{opened: make(chan *Conn, 1), closed: make(chan error, 1)}
		h.then = func(*Batch, *Conn, *Msg) { back <- struct{}{} }
		c := dial(t, tr, l, Config{}, h)
		body := NewBody(make([]byte, size))
		head := [][]byte{nil, []byte("MDPC02"), []byte("echo")}
		var b Batch
		round := func() {
			if err := c.Send(&b, head, body); err != nil {
				t.Fatal(err)
			}
			b.Flush()
			<-back
		}
		for range 100 {
			round()
		}
		if n := testing.AllocsPerRun(2000, round); n >= 1 {
			t.Errorf("%s, %d octets: %v allocations per round trip", tr.name, size, n)
		}
		body.Release()
	}
}

// TestIdleConnectionsAreSmall measures both ends of idle connections that have
// been busy, in user space.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const n = 500
	usage := func() uint64 {
		runtime.GC()
		runtime.GC() // pools keep what they had for one collection more
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	for tr, most := range map[transport]uint64{transports()[0]: 12 << 10, transports()[1]: 3 << 10} {
		h := newRecorder()
		h.then = func(b *Batch, c *Conn, m *Msg) { _ = c.Send(b, nil, m.Body(0)) }
		l := listen(t, tr, Config{}, h)
		before := usage()
		peers := make([]*rawPeer, n)
		for i := range peers {
			peers[i] = open(t, tr, l, "DEALER", 0)
			p := peers[i]
			p.write(frame(1, ""), frame(0, strings.Repeat("x", 40)))
			p.want(frame(1, ""), frame(0, strings.Repeat("x", 40)))
		}
		each := (usage() - before) / n
		t.Logf("%s: %d octets per idle connection, the test's own end included", tr.name, each)
		if each > most && runtime.GOOS == "linux" {
			t.Errorf("%s: %d octets per idle connection, want %d at most", tr.name, each, most)
		}
	}
}
