package zsock

import "testing"

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
