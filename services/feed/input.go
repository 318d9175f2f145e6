package feed

import (
	"context"
	"io"
)

// readSize is how much of the input is read at once.
const readSize = 64 << 10

// chunk is what one read gave.
type chunk struct {
	octets []byte
	err    error
}

// input is a reader that can be waited for until a context ends. Standard input
// itself cannot: the read under way is left behind.
type input struct {
	ctx    context.Context
	chunks chan chunk
	last   chunk
}

// readUntil starts a goroutine, which ends with in or, after its next read, ctx.
func readUntil(ctx context.Context, in io.Reader) io.Reader {
	r := &input{ctx: ctx, chunks: make(chan chunk)}
	go func() {
		for {
			octets := make([]byte, readSize)
			n, err := in.Read(octets)
			select {
			case r.chunks <- chunk{octets[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

func (r *input) Read(p []byte) (int, error) {
	for len(r.last.octets) == 0 {
		if r.last.err != nil {
			return 0, r.last.err
		}
		select {
		case r.last = <-r.chunks:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
	n := copy(p, r.last.octets)
	r.last.octets = r.last.octets[n:]
	return n, nil
}
