package ingest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// firstBuffer is the size of a quiet connection's buffer, in octets.
const firstBuffer = 4 << 10

var (
	errLineTooLong = errors.New("line too long")
	errLineTooSlow = errors.New("line not finished in time")
	errStoppedByUs = errors.New("stopped reading")
)

// lineReader splits a connection into lines within bounds of length and time.
// Its buffer grows only while reads fill it, and is given back when they do not.
type lineReader struct {
	nc      net.Conn
	max     int           // octets of a line, line end not counted
	timeout time.Duration // for the rest of a line once it has begun
	stopped atomic.Bool

	buf      []byte
	from, to int  // buf[from:to] is not yet handed out
	scanned  int  // buf[from:scanned] holds no newline
	skipping bool // over the rest of a line that was too long
	begun    time.Time
	err      error // of the connection, handed out after the last line
}

func newLineReader(nc net.Conn, longest int, timeout time.Duration) *lineReader {
	return &lineReader{nc: nc, max: longest, timeout: timeout, buf: make([]byte, min(firstBuffer, longest+2))}
}

// stop makes next return errStoppedByUs after the lines that are already here.
// It may be called from any goroutine.
func (l *lineReader) stop() {
	l.stopped.Store(true)
	_ = l.nc.SetReadDeadline(time.Unix(1, 0))
}

// next returns the next line without its line end (LF or CRLF); it is valid
// until the following call. At the end of the stream it returns an unfinished
// last line first, then io.EOF. After errLineTooLong reading goes on with the
// following line; every other error is final.
func (l *lineReader) next() ([]byte, error) {
	for {
		if at := bytes.IndexByte(l.buf[l.scanned:l.to], '\n'); at >= 0 {
			line := l.buf[l.from : l.scanned+at]
			l.from = l.scanned + at + 1
			l.scanned, l.begun = l.from, time.Time{}
			if l.skipping {
				l.skipping = false
				continue
			}
			if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > l.max {
				return nil, errLineTooLong
			}
			return line, nil
		}
		l.scanned = l.to
		if l.skipping {
			l.from = l.to
		} else if l.to-l.from > l.max+1 { // one more for a CR
			l.skipping, l.from = true, l.to
			return nil, errLineTooLong
		}
		if l.err != nil {
			return l.rest()
		}
		l.fill()
	}
}

// rest hands out the last line, which has no line end, and then the error. Only
// a client that ended its stream in good order can have meant the line as whole.
func (l *lineReader) rest() ([]byte, error) {
	line := l.buf[l.from:l.to]
	l.from = l.to
	if len(line) == 0 || !errors.Is(l.err, io.EOF) {
		return nil, l.err
	}
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > l.max {
		return nil, errLineTooLong
	}
	return line, nil
}

// fill makes room and reads once.
func (l *lineReader) fill() {
	if l.from > 0 {
		l.to = copy(l.buf, l.buf[l.from:l.to])
		l.from, l.scanned = 0, l.to
	}
	if l.to == len(l.buf) {
		l.resize(2 * len(l.buf))
	}
	l.setDeadline()
	n, err := l.nc.Read(l.buf[l.to:])
	full := n == len(l.buf)-l.to
	l.to += n
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && l.stopped.Load():
		l.err = errStoppedByUs
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.err = errLineTooSlow
	default:
		l.err = err
	}
	if full {
		l.resize(2 * len(l.buf))
	} else if len(l.buf) > firstBuffer && l.to < len(l.buf)/8 {
		l.resize(firstBuffer)
	}
}

// resize changes the buffer's size within the bounds and keeps its content.
func (l *lineReader) resize(size int) {
	size = max(min(size, l.max+2), l.to)
	if size != len(l.buf) {
		buf := make([]byte, size)
		copy(buf, l.buf[:l.to])
		l.buf = buf
	}
}

// setDeadline gives a line that has begun until its timeout, and a quiet
// connection for ever.
func (l *lineReader) setDeadline() {
	var deadline time.Time
	if l.to > l.from || l.skipping {
		if l.begun.IsZero() {
			l.begun = time.Now()
		}
		deadline = l.begun.Add(l.timeout)
	}
	_ = l.nc.SetReadDeadline(deadline)
	if l.stopped.Load() { // after our deadline, so that stop is never undone
		_ = l.nc.SetReadDeadline(time.Unix(1, 0))
	}
}
