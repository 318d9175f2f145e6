package zsock

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
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

// Whatever sizes messages have and in whatever pieces they come, with commands
// between their frames, they are what was sent, also those that are held for a while.
func TestAnyPieces(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		type kept struct {
			body Body
			want string
		}
		const messages = 300
		lots := rand.New(rand.NewPCG(1, 2))
		var wire []byte
		var sent []string
		for range messages {
			content := ""
			for left := lots.IntN(4); left >= 0; left-- {
				size := []int{0, 300, 5 << 10, 12 << 10, 15 << 10, 17 << 10, 40 << 10, 300 << 10}[min(lots.IntN(8), lots.IntN(10))]
				payload := strings.Repeat(string(rune('a'+lots.IntN(26))), size+lots.IntN(200))
				wire = append(wire, frame(byte(min(left, 1)), payload)...)
				if lots.IntN(5) == 0 {
					wire = append(wire, commandFrame("PING", "\x00\x00")...)
				}
				content += payload
			}
			sent = append(sent, content)
		}

		server := newRecorder()
		done := make(chan struct{})
		var held []kept
		var next int // of the reader
		check := func(k kept) {
			if got := bytes.Join(k.body.Append(nil), nil); string(got) != k.want {
				t.Errorf("a message of %d octets is not what was sent from octet %d on", len(k.want), differ(got, k.want))
			}
			k.body.Release()
		}
		server.then = func(_ *Batch, _ *Conn, m *Msg) {
			held = append(held, kept{m.Body(0).Hold(), sent[next]})
			if next++; len(held) > 5 {
				check(held[0])
				held = held[1:]
			}
			if next == messages {
				for _, k := range held {
					check(k)
				}
				close(done)
			}
		}
		p := open(t, tr, listen(t, tr, Config{}, server), "DEALER", 1)
		go func() { _, _ = io.Copy(io.Discard, p) }() // PONGs
		for len(wire) > 0 {
			n := min(1+lots.IntN([]int{10, 1000, 20_000, 100_000}[lots.IntN(4)]), len(wire))
			p.write(wire[:n])
			wire = wire[n:]
			runtime.Gosched()
		}
		receive(t, done)
	})
}
