package zsock

import (
	"slices"
	"testing"
)

// A connection is flushed by the batch that it was first sent to with, for all.
func TestOneBatchFlushesForAll(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server, h := newRecorder(), newRecorder()
		l := listen(t, tr, Config{}, server)
		c := dial(t, tr, l, Config{}, h)
		var first, second, added Batch
		sendWith := func(b *Batch, text string) {
			t.Helper()
			if err := c.Send(b, [][]byte{[]byte(text)}, Body{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // each flush leaves it free for the next batch
			added.Add(c)
			sendWith(&first, "a")
			sendWith(&second, "b")
			first.Flush()
			second.Flush()
			if messages, _ := c.Queued(); messages != 2 {
				t.Errorf("%d messages wait for the batch that has the connection, want 2", messages)
			}
			added.Flush()
			sendWith(&second, "c")
			second.Flush()
			for _, want := range []string{"a", "b", "c"} {
				if m := receive(t, server.messages); len(m.frames) != 1 || m.frames[0] != want {
					t.Errorf("%q came, want %q", m.frames, want)
				}
			}
		}
		added.Add(c) // with nothing to write
		added.Flush()
	})
}

// journal notes who was written to.
type journal struct {
	c     *Conn
	wrote *[]*Conn
}

func (j journal) TryWrite(p []byte) (int, error) {
	*j.wrote = append(*j.wrote, j.c)
	return len(p), nil
}

// What waits for a connection that precedes others is written first, whoever was sent
// to first.
func TestPrecedingIsWrittenFirst(t *testing.T) {
	cfg, err := Config{Type: Router}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	var wrote []*Conn
	conns := make([]*Conn, 4)
	for i := range conns {
		conns[i] = &Conn{cfg: &cfg}
		conns[i].try = journal{conns[i], &wrote}
	}
	conns[1].Precede()
	conns[3].Precede()
	var b Batch
	for range 2 {
		wrote = nil
		for _, c := range conns {
			if err := c.Send(&b, [][]byte{[]byte("x")}, Body{}); err != nil {
				t.Fatal(err)
			}
		}
		b.Flush()
		if want := []*Conn{conns[1], conns[3], conns[0], conns[2]}; !slices.Equal(wrote, want) {
			t.Errorf("written in another order than want: %v, want %v", wrote, want)
		}
	}
}
