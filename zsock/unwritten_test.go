package zsock

import (
	"errors"
	"strings"
	"testing"
)

// What was sent to a peer that reads nothing is partly on its way when the connection
// ends; what is behind that was not written.
func TestUnwritten(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		h := newRecorder()
		l := listen(t, tr, Config{HighWaterBytes: 64 << 20}, h)
		open(t, tr, l, "DEALER", 0)
		c := receive(t, h.opened)
		number := func(frame string) uint32 {
			t.Helper()
			var b Batch
			n, err := c.SendNumbered(&b, [][]byte{[]byte(frame)}, Body{})
			if err != nil {
				t.Fatal(err)
			}
			b.FlushNow()
			return n
		}
		writes := c.Writes()
		arrived := number("small")
		if n := c.Writes() - writes; n != 1 {
			t.Errorf("one message took %d writes", n)
		}
		half := number(strings.Repeat("x", 32<<20)) // more than any kernel takes
		behind := [...]uint32{number("y"), number("z"), 0}
		var b Batch
		var loan Loan
		if behind[2], _ = c.SendLoan(&b, [][]byte{{'h'}}, [][]byte{make([]byte, 64<<10)}, &loan); behind[2] != behind[1]+1 {
			t.Errorf("what was lent is message %d behind %d", behind[2], behind[1])
		}
		b.FlushNow()
		if c.Unwritten(behind[1]) {
			t.Error("a message may still be written while the connection is open")
		}
		mine := errors.New("mine")
		c.Close(mine)
		if err := receive(t, h.closed); !errors.Is(err, mine) {
			t.Error(err)
		}
		for n, want := range map[uint32]bool{arrived: false, half: false, behind[0]: true, behind[1]: true, behind[2]: true} {
			if got := c.Unwritten(n); got != want {
				t.Errorf("message %d: unwritten is %t, want %t", n, got, want)
			}
		}
	})
}
