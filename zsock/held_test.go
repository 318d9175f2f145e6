package zsock

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// A body that is held stays what it was, whatever is read behind it: large messages
// are read into memory that is shared with those who hold them.
func TestHeldBodiesStayAsTheyWere(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		bodies := make(chan Body, 3)
		server.then = func(_ *Batch, _ *Conn, m *Msg) { bodies <- m.Body(0).Hold() }
		p := open(t, tr, listen(t, tr, Config{}, server), "DEALER", 0)
		c := receive(t, server.opened)
		large, next := strings.Repeat("a", 17<<10), strings.Repeat("b", 15<<10)
		for range 20 {
			whole, reads := longFrame(0, large), c.Reads()
			p.write(whole[:8<<10])
			waitFor(t, func() bool { return c.Reads() > reads })
			p.write(whole[8<<10:]) // now the reader foresees another one as large
			first := receive(t, bodies)
			cut := longFrame(0, next)
			p.write(whole, cut[:12<<10])
			second := receive(t, bodies)
			p.write(cut[12<<10:])
			third := receive(t, bodies)
			for i, want := range []string{large, large, next} {
				b := []Body{first, second, third}[i]
				if got := bytes.Join(b.Append(nil), nil); string(got) != want {
					t.Errorf("body %d of %d octets is not what was sent from octet %d on", i, len(got), differ(got, want))
				}
				b.Release()
			}
			if t.Failed() {
				return
			}
		}
	})
}

// differ is where got stops being want.
func differ(got []byte, want string) int {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return i
		}
	}
	return min(len(got), len(want))
}

// A message that begins in the same read as another one ends must come on like any.
func TestProgressIsOwedByEachMessage(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		p := open(t, tr, listen(t, tr, Config{ProgressTimeout: 300 * time.Millisecond}, server), "DEALER", 0)
		message := frame(0, "message")
		p.write(message, message[:4])
		receive(t, server.messages)
		p.write(message[4:], message[:4])
		receive(t, server.messages)
		if err := receive(t, server.closed); !errors.Is(err, ErrProgress) {
			t.Errorf("closed with %v, want ErrProgress", err)
		}
	})
}
