package worker

import (
	"github.com/mdmesh/mdmesh/mdp"
)

// byReference is from how many octets on a body is copied once, into memory that
// the connection shares, and outside all locks.
const byReference = 16 << 10

// text is scratch space for one message at a time.
type text struct {
	command mdp.Command
	head    [mdp.MaxHead]byte
	frames  [8][]byte
}

// begin begins a command of this kind.
func (t *text) begin(kind mdp.Kind) *mdp.Command {
	t.command = mdp.Command{Role: mdp.Worker, Kind: kind, Dialect: mdp.Native}
	return &t.command
}

// encode returns the frames of the command, valid until the next one begins. There
// is room for those of a body behind them.
func (t *text) encode() [][]byte {
	return mdp.Append(t.frames[:0], t.head[:], &t.command)
}

// final returns the frames, without a body, of a partial or final of r.
func (t *text) final(r *Request, kind mdp.Kind, failure *mdp.Error) [][]byte {
	c := t.begin(kind)
	c.Head.Token, c.Head.ID, c.Head.Attempt = r.token, r.ID, uint16(r.Attempt)
	if failure != nil {
		c.SetError(failure)
	}
	return t.encode()
}

func sizeOf(frames [][]byte) (octets int) {
	for _, f := range frames {
		octets += len(f)
	}
	return octets
}
