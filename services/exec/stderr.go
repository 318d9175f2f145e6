package exec

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// words are what a child that stays says beside its answers; the last of it is kept. A
// program says what it has to say of a request before it answers, so whoever has the
// answer finds all of that in the pipe, though the reader may not have come to it yet:
// forget takes it from there, and none of it is told of the next request.
type words struct {
	pipe *os.File
	done chan struct{} // closed when nothing more is read

	mu   sync.Mutex // also held while the pipe is read from, so that nothing is on the way
	tail tail
	room [4 << 10]byte
}

func newWords(pipe *os.File) *words {
	return &words{pipe: pipe, done: make(chan struct{}), tail: tail{max: stderrKept}}
}

// read reads until the end, or until the deadline of the pipe.
func (w *words) read() {
	defer close(w.done)
	raw, err := w.pipe.SyscallConn()
	if err != nil {
		return
	}
	for over := false; !over && err == nil; {
		err = raw.Read(func(fd uintptr) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			var empty bool
			empty, over = w.take(int(fd))
			return !empty
		})
	}
}

// take reads once without waiting. Callers hold mu.
func (w *words) take(fd int) (empty, over bool) {
	n, err := syscall.Read(fd, w.room[:])
	switch {
	case n > 0:
		_, _ = w.tail.Write(w.room[:n])
		return false, false
	case err == syscall.EAGAIN:
		return true, false
	}
	return false, err != syscall.EINTR
}

// maxThere is how much is taken from the pipe at once, in octets: as much as a pipe
// holds. A program that never stops talking must not keep its worker here.
const maxThere = 64 << 10

// takeAll takes what is there. Callers hold mu.
func (w *words) takeAll() {
	raw, err := w.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for range maxThere / len(w.room) {
			if empty, over := w.take(int(fd)); empty || over {
				return
			}
		}
	})
}

// forget drops what was said so far.
func (w *words) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.takeAll()
	w.tail.buf = w.tail.buf[:0]
}

// finish waits for the last words, but not for long: somebody else may hold the pipe.
// What is there by then is taken, however late its reader was.
func (w *words) finish(grace time.Duration) {
	_ = w.pipe.SetReadDeadline(time.Now().Add(grace))
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	w.takeAll()
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tail.String()
}
