package zsock

import (
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// What waits for those who do not read is bounded for all of them together; who reads
// is refused nothing for it.
func TestBacklog(t *testing.T) {
	bubble(t, func(t *testing.T, n *memsock.Net, _ transport) {
		backlog := NewBacklog(300_000)
		server := newRecorder()
		l := listen(t, transport{network: n, endpoint: "tcp://broker:0"}, Config{}, server)
		from := func(host string) (put func(size int) error, c *Conn) {
			c = dial(t, transport{network: n.Host(host)}, l, Config{Backlog: backlog}, newRecorder())
			return func(size int) error {
				var b Batch
				defer b.Flush()
				return c.Send(&b, [][]byte{make([]byte, size)}, Body{})
			}, c
		}
		first, a := from("first")
		second, _ := from("second")
		reads, _ := from("reads")
		for _, host := range []string{"first", "second"} {
			n.Fault(host, "broker", memsock.Fault{Stall: true})
		}
		if err := first(350_000); err != nil {
			t.Fatal(err)
		}
		if _, octets := a.Queued(); backlog.Octets() != int64(octets) || octets < 280_000 {
			t.Errorf("%d octets in the backlog, %d wait", backlog.Octets(), octets)
		}
		if err := second(400_000); err != nil {
			t.Errorf("an empty queue refused: %v", err)
		}
		if err := second(smallMessage); err != ErrHighWater {
			t.Errorf("beyond the bound: %v", err)
		}
		if err := second(100); err != nil {
			t.Errorf("what is small: %v", err)
		}
		for range 3 {
			if err := reads(400_000); err != nil {
				t.Errorf("to one who reads: %v", err)
			}
			receive(t, server.messages)
			synctest.Wait()
		}
		n.Heal("second", "broker")
		receive(t, server.messages)
		receive(t, server.messages)
		synctest.Wait()
		if _, octets := a.Queued(); backlog.Octets() != int64(octets) {
			t.Errorf("%d octets in the backlog, %d wait", backlog.Octets(), octets)
		}
		if err := second(smallMessage); err != nil {
			t.Errorf("who has caught up: %v", err)
		}
		a.Close(nil)
		receive(t, server.messages)
		synctest.Wait()
		if n := backlog.Octets(); n != 0 {
			t.Errorf("%d octets in the backlog at the end", n)
		}
	})
}

// Over every kind of connection what leaves the queue leaves the backlog, also by the
// end of the connection.
func TestBacklogEndsEmpty(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		backlog := NewBacklog(1 << 30)
		server := newRecorder()
		l := listen(t, tr, Config{Backlog: backlog}, server)
		p := open(t, tr, l, "DEALER", 0)
		send(t, receive(t, server.opened), string(make([]byte, 32<<20)))
		waitFor(t, func() bool { return backlog.Octets() > 1<<20 })
		_ = p.Close()
		receive(t, server.closed)
		waitFor(t, func() bool { return backlog.Octets() == 0 })

		reader := newRecorder()
		c := dial(t, tr, l, Config{}, reader)
		at := receive(t, server.opened)
		for range 3 {
			send(t, at, string(make([]byte, 8<<20)))
			receive(t, reader.messages)
			waitFor(t, func() bool { return backlog.Octets() == 0 })
		}
		c.Close(nil)
	})
}

// What waits elsewhere counts with what waits in connections.
func TestBacklogTake(t *testing.T) {
	t.Parallel()
	b := NewBacklog(100)
	for _, step := range []struct {
		octets, after int64
		taken         bool
	}{{60, 60, true}, {41, 60, false}, {40, 100, true}, {1, 100, false}} {
		if taken := b.Take(step.octets); taken != step.taken || b.Octets() != step.after {
			t.Errorf("%d octets: taken is %t, %d wait", step.octets, taken, b.Octets())
		}
	}
	b.Give(100)
	if !b.Take(500) || b.Take(1) {
		t.Error("when nothing waits there is room for one, whatever its size")
	}
	if b.Give(500); b.Octets() != 0 {
		t.Errorf("%d octets wait", b.Octets())
	}
}
