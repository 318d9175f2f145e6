package memsock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is how much a direction holds before its writer waits.
const bufferSize = 64 << 10

// stream is one direction of a connection: a bounded queue of octets.
type stream struct {
	mu   sync.Mutex
	cond sync.Cond // anything changed

	queue []piece
	size  int // octets in queue
	fault Fault
	err   error // both ends fail with it

	finished  bool // the writer has closed: no more octets
	abandoned bool // the reader has closed: octets go nowhere

	read, write deadline
}

// piece is a run of octets that arrives at a time; zero means at once.
type piece struct {
	data []byte
	at   time.Time
}

func newStream(f Fault) *stream {
	s := &stream{fault: f}
	s.cond.L = &s.mu
	return s
}

// Read takes what has arrived; it waits for the first octet only.
func (s *stream) Read(p []byte, closed *bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case *closed:
			return 0, net.ErrClosed
		case s.read.passed():
			return 0, os.ErrDeadlineExceeded
		case s.err != nil:
			return 0, s.err
		case len(p) == 0:
			return 0, nil
		case s.fault.Stall:
		case len(s.queue) > 0 && !s.queue[0].at.After(time.Now()):
			return s.take(p), nil
		case len(s.queue) == 0 && s.finished && !s.fault.Discard:
			return 0, io.EOF
		}
		s.waitForPiece()
	}
}

// waitForPiece waits for a change, or for the first piece to arrive.
func (s *stream) waitForPiece() {
	if len(s.queue) > 0 && !s.fault.Stall {
		if wait := time.Until(s.queue[0].at); wait > 0 {
			defer time.AfterFunc(wait, s.wake).Stop()
		}
	}
	s.cond.Wait()
}

// take copies what has arrived, within the chunk limit.
func (s *stream) take(p []byte) int {
	if s.fault.Chunk > 0 {
		p = p[:min(len(p), s.fault.Chunk)]
	}
	n := 0
	for n < len(p) && len(s.queue) > 0 && !s.queue[0].at.After(time.Now()) {
		k := copy(p[n:], s.queue[0].data)
		n += k
		s.queue[0].data = s.queue[0].data[k:]
		if len(s.queue[0].data) == 0 {
			s.queue[0].data = nil
			s.queue = s.queue[1:]
		}
	}
	s.size -= n
	s.cond.Broadcast()
	return n
}

// Write queues p. With wait unset it takes what fits and returns.
func (s *stream) Write(p []byte, closed *bool, wait bool) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case *closed || s.finished:
			return n, net.ErrClosed
		case s.write.passed():
			return n, os.ErrDeadlineExceeded
		case s.err != nil:
			return n, s.err
		case s.abandoned && !s.fault.Stall && !s.fault.Discard:
			return n, syscall.EPIPE // word that the reader left has come through
		}
		n += s.put(p[n:])
		if n == len(p) || !wait {
			return n, nil
		}
		s.cond.Wait()
	}
}

// put queues as much of p as there is room for.
func (s *stream) put(p []byte) int {
	if s.fault.Discard {
		return len(p)
	}
	p = p[:min(len(p), bufferSize-s.size)]
	if len(p) == 0 {
		return 0
	}
	var at time.Time
	if s.fault.Delay > 0 {
		at = time.Now().Add(s.fault.Delay)
	}
	if last := len(s.queue) - 1; last >= 0 && s.queue[last].at.After(at) {
		at = s.queue[last].at // a delay that was shortened must not let octets overtake
	}
	from := 0
	if last := len(s.queue) - 1; last >= 0 && s.queue[last].at.Equal(at) {
		from = len(s.queue[last].data)
		s.queue[last].data = append(s.queue[last].data, p...)
	} else {
		s.queue = append(s.queue, piece{data: append([]byte(nil), p...), at: at})
	}
	if s.fault.Mangle != nil {
		s.fault.Mangle(s.queue[len(s.queue)-1].data[from:])
	}
	s.size += len(p)
	s.cond.Broadcast()
	return len(p)
}

// finish is the writer's close: what is queued still arrives.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.cond.Broadcast()
}

// abandon is the reader's close: what is queued is lost.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned = true
	s.queue, s.size = nil, 0
	s.cond.Broadcast()
}

// fail breaks both ends; what is queued is lost.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.queue, s.size = nil, 0
	s.cond.Broadcast()
}

func (s *stream) setFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	s.cond.Broadcast()
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
}

// setDeadline sets d, one of s.read and s.write.
func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, s.wake)
	}
	s.cond.Broadcast()
}

// deadline is a time after which waiting fails; zero is never.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
