package logging

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// patience is how long one who logs waits for the line to be written.
	patience = time.Second
	// maxBacklog bounds, in octets, what waits for a log that stands still.
	maxBacklog = 256 << 10
)

// stderr is the standard error of the process, as all its loggers share it.
var stderr = &patient{to: os.Stderr, patience: patience, lost: lost}

// Stderr is standard error for those who must not hang where nobody reads it, such
// as a pipe that is full: see [New].
func Stderr() io.Writer { return stderr }

// patient writes lines to a log that may stand still. Write returns when the line is
// written or patience is over; while the log stands still nobody waits again. What
// comes meanwhile is written later, in order, or counted as lost beyond maxBacklog.
//
// A write in the kernel cannot be taken back, so a goroutine makes it, which a log
// that nobody ever reads keeps until the process ends.
type patient struct {
	to       io.Writer
	patience time.Duration
	lost     func(lines int) []byte // the line that tells of lost ones

	mu sync.Mutex
	// mu guards the following.
	next    *batch // not yet begun; nil if there is nothing
	writing bool   // a goroutine is
	still   bool   // somebody waited in vain, and nothing was written since
	dropped int    // lines, since the last batch was begun
}

// batch is what one write takes.
type batch struct {
	lines []byte
	done  chan struct{} // closed when it is written, or cannot be
}

// Write implements io.Writer; p is one line. It never fails: there is nobody to tell.
func (w *patient) Write(p []byte) (int, error) {
	w.mu.Lock()
	if w.next == nil {
		w.next = &batch{done: make(chan struct{})}
	}
	b, still := w.next, w.still
	if len(b.lines) > 0 && len(b.lines)+len(p) > maxBacklog {
		w.dropped++
		w.mu.Unlock()
		return len(p), nil
	}
	b.lines = append(b.lines, p...)
	if !w.writing {
		w.writing = true
		go w.write()
	}
	w.mu.Unlock()
	if !still && !b.wait(w.patience) {
		w.mu.Lock()
		w.still = w.writing
		w.mu.Unlock()
	}
	return len(p), nil
}

// wait tells whether the batch was written within d.
func (b *batch) wait(d time.Duration) bool {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	select {
	case <-b.done:
		return true
	case <-timeout.C:
		return false
	}
}

// write writes batch after batch until there is none.
func (w *patient) write() {
	for b := w.take(); b != nil; b = w.take() {
		_, _ = w.to.Write(b.lines)
		w.mu.Lock()
		w.still = false
		w.mu.Unlock()
		close(b.done)
	}
}

// take returns what is next, with a line about what was lost behind it.
func (w *patient) take() *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.next
	w.next = nil
	if b == nil {
		w.writing = false
		return nil
	}
	if w.dropped > 0 {
		b.lines = append(b.lines, w.lost(w.dropped)...)
		w.dropped = 0
	}
	return b
}

// lost is the line that tells how many there are no more, in the form of the others.
func lost(lines int) []byte {
	var line bytes.Buffer
	newTo(&line, "log").Warn("log lines dropped: nobody read them", "lines", lines)
	return line.Bytes()
}
