package zsock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// await leaves the rest of the output to the poller: it goes on when the
// descriptor takes more. Called with mu held by the writer.
func (s *sock) await(c *Conn) {
	s.blocked = true
	s.writeBy = time.Now().Add(c.cfg.WriteTimeout)
	if !s.polled {
		s.polled = true
		s.ask(c)
	}
	if s.patience == nil {
		s.patience = time.AfterFunc(c.cfg.WriteTimeout, c.stuck)
	}
}

// ask changes what epoll tells. Called with mu held.
func (s *sock) ask(c *Conn) {
	if s.generation == 0 {
		return // open will ask
	}
	if err := unix.EpollCtl(s.p.epoll, unix.EPOLL_CTL_MOD, s.fd, s.interest()); err != nil && !c.closed.Load() {
		c.closeLocked(fmt.Errorf("zsock: epoll: %w", err))
	}
}

// writable goes on with output that was left to the poller.
func (c *Conn) writable() {
	s := c.sock
	c.mu.Lock()
	if s.blocked {
		s.blocked, c.writing = false, false // flush takes it from here
	}
	c.mu.Unlock()
	c.flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.polled && !s.blocked && s.fd >= 0 {
		s.polled = false
		s.ask(c)
	}
}

// stuck runs when nothing may have been written for WriteTimeout.
func (c *Conn) stuck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sock
	left := time.Until(s.writeBy)
	switch {
	case !s.blocked || c.closed.Load():
		s.patience = nil
	case left > 0:
		s.patience.Reset(left)
	default:
		c.failOutput(os.ErrDeadlineExceeded)
	}
}

// stopTalking says to the peer that nothing more comes. Called with mu held.
func (s *sock) stopTalking(c *Conn) {
	_ = unix.Shutdown(s.fd, syscall.SHUT_WR)
	s.lingerBy = time.Now().Add(lingerTime)
	time.AfterFunc(lingerTime, func() { s.p.call(c) })
}

// writeShared writes what the descriptor takes now.
func (c *Conn) writeShared() (int, error) {
	n, err := writeSegments(c.sock.fd, c.cur.segments)
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	return max(n, 0), err
}
