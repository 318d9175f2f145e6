package relay

import (
	"errors"
	"io"
	"net"
	"time"
)

// Bounds of what is on its way in one direction of one connection.
const (
	pieceSize = 64 << 10
	maxPieces = 64
)

// piece is what one read brought.
type piece struct {
	octets []byte
	due    time.Time // when it may leave
	end    error     // instead of octets: how the stream ended
}

// pump moves one direction of a connection until it ends.
func (r *Relay) pump(d Direction, from, to *net.TCPConn) {
	pieces := make(chan piece, maxPieces)
	gone := make(chan struct{}) // the writer has given up
	r.wg.Go(func() {
		defer close(pieces)
		r.read(d, from, pieces, gone)
	})
	defer close(gone)
	for p := range pieces {
		if wait := time.Until(p.due); wait > 0 && !r.wait(wait) {
			return
		}
		if p.end != nil {
			r.finish(d, to, p.end)
			return
		}
		if err := r.write(d, to, p.octets); err != nil {
			reset(from) // it would go on sending to nobody
			return
		}
	}
}

// read brings pieces until the stream ends. The end of a discarded stream is
// discarded, too: then the pieces just end.
func (r *Relay) read(d Direction, from *net.TCPConn, pieces chan<- piece, gone <-chan struct{}) {
	buf := make([]byte, pieceSize)
	for {
		f, ok := r.open(d)
		if !ok {
			return
		}
		most := len(buf)
		if f.Rate > 0 {
			most = min(most, max(f.Rate/100, 1))
		}
		n, err := from.Read(buf[:most])
		f, _ = r.rule(d)
		// Slow is who takes octets slowly: what waits, waits at the sender.
		if f.Rate > 0 && !r.wait(time.Duration(n)*time.Second/time.Duration(f.Rate)) {
			return
		}
		if f.Discard {
			if err != nil {
				<-r.done // the other end is not to notice
				return
			}
			continue
		}
		p := piece{octets: append([]byte(nil), buf[:n]...), due: time.Now().Add(f.Delay)}
		if f.Mangle != nil {
			f.Mangle(p.octets)
		}
		for _, next := range []piece{p, {due: p.due, end: err}} {
			if len(next.octets) == 0 && next.end == nil {
				continue
			}
			select {
			case pieces <- next:
			case <-gone:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write sends octets under whatever fault is in force.
func (r *Relay) write(d Direction, to *net.TCPConn, octets []byte) error {
	for len(octets) > 0 {
		f, ok := r.open(d)
		if !ok {
			return net.ErrClosed
		}
		if f.Discard {
			return nil
		}
		n := len(octets)
		if f.Chunk > 0 {
			n = min(n, f.Chunk)
		}
		if f.Pause > 0 && !r.wait(f.Pause) {
			return net.ErrClosed
		}
		r.mu.Lock()
		r.passed[d] += int64(n) // first, so that who has read it finds it counted
		r.mu.Unlock()
		if _, err := to.Write(octets[:n]); err != nil {
			return err
		}
		octets = octets[n:]
	}
	return nil
}

// finish passes the end of a stream on: the orderly one, or a broken connection.
func (r *Relay) finish(d Direction, to *net.TCPConn, end error) {
	if f, ok := r.open(d); !ok || f.Discard {
		return
	}
	if errors.Is(end, io.EOF) {
		_ = to.CloseWrite()
		return
	}
	reset(to)
}

// open waits while the direction is stalled, and returns the fault in force, or
// false when the relay is closed.
func (r *Relay) open(d Direction) (Fault, bool) {
	for {
		f, changed := r.rule(d)
		if !f.Stall {
			return f, true
		}
		select {
		case <-changed:
		case <-r.done:
			return f, false
		}
	}
}
