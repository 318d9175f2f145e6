package zsock

import (
	"bytes"
	"testing"
)

// What was lent leaves as it was when the loan ended, written by then or not: the peer
// does not read at first, so that of several messages one is written in part, and
// others wait behind it.
func TestLentFramesLeaveAsTheyWere(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		server.hold = make(chan struct{})
		l := listen(t, tr, Config{}, server)
		c := dial(t, tr, l, Config{HighWaterBytes: 64 << 20}, newRecorder())
		receive(t, server.opened)
		const size = 3 << 20
		frame := make([]byte, size)
		var loans [4]Loan
		var b Batch
		for i := range loans {
			fill(frame, byte(i))
			if _, err := c.SendLoan(&b, [][]byte{{byte(i)}}, [][]byte{frame, []byte("small"), frame}, &loans[i]); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				b.FlushNow()
			}
			loans[i].End()
			if refs := loans[i].mark.refs.Load(); refs > 1 {
				t.Errorf("loan %d has ended and is referred to %d times", i, refs-1)
			}
		}
		b.FlushNow()
		fill(frame, 'x')
		close(server.hold)
		for i := range loans {
			m := receive(t, server.messages)
			want := bytes.Repeat([]byte{byte(i)}, size)
			if len(m.frames) != 4 || m.frames[0] != string(want[:1]) || m.frames[1] != string(want) || m.frames[2] != "small" || m.frames[3] != string(want) {
				t.Fatalf("message %d is not what was sent", i)
			}
		}
	})
}

func fill(p []byte, v byte) {
	for i := range p {
		p[i] = v
	}
}

// Frames that were kept are the keeper's, whatever is read behind them, and the
// buffer they lie in is never used again.
func TestKeptFramesAreTheKeepers(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		server := newRecorder()
		kept := make(chan [][]byte, 64)
		server.then = func(_ *Batch, _ *Conn, m *Msg) { kept <- m.Keep(1) }
		l := listen(t, tr, Config{}, server)
		c := dial(t, tr, l, Config{}, newRecorder())
		sizes := []int{64, 64 << 10, 64 << 10, 20 << 10, 1 << 20, 64 << 10, 0}
		for i, size := range sizes {
			var b Batch
			body := bytes.Repeat([]byte{byte('a' + i)}, size)
			if err := c.Send(&b, [][]byte{nil, body, body}, Body{}); err != nil {
				t.Fatal(err)
			}
			b.Flush()
		}
		var all [][][]byte
		for range sizes {
			all = append(all, receive(t, kept))
		}
		for i, frames := range all {
			want := bytes.Repeat([]byte{byte('a' + i)}, sizes[i])
			if len(frames) != 2 || !bytes.Equal(frames[0], want) || !bytes.Equal(frames[1], want) {
				t.Errorf("message %d is not what was sent", i)
			}
			for _, f := range frames {
				if cap(f) > len(f) {
					t.Errorf("a frame of message %d has room behind it", i)
				}
				fill(f, 'x')
			}
		}
	})
}
