package zsock

import (
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// sock is the descriptor of a shared connection.
type sock struct {
	p          *poller
	fd         int   // -1 once closed
	slot       int32 // loop only
	generation int32 // loop only
	tcp        bool
	opened     bool        // loop only
	gone       bool        // loop only
	timer      *time.Timer // loop only; calls the loop
	ended      func()

	called bool // in poller.calls; guarded by poller.mu

	// The following are guarded by Conn.mu.
	blocked  bool // what is left of Conn.cur waits until the descriptor takes more
	polled   bool // EPOLLOUT is asked for
	doomed   bool // whoever is inside a write closes the descriptor
	lingerBy time.Time
	writeBy  time.Time
	patience *time.Timer // looks at writeBy
}

// share gives the connection to a poller, if it has a descriptor, and reports
// whether it did. ended is called by the poller when the connection is over.
// Called with mu held, which it may release meanwhile.
func (c *Conn) share(ended func()) bool {
	if !c.cfg.Shared || c.raw == nil {
		return false
	}
	for c.inside { // what is just written does not wait
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if c.writing || c.shut || c.closed.Load() {
		return false
	}
	_, tcp := c.nc.(*net.TCPConn)
	if _, ipc := c.nc.(*net.UnixConn); !tcp && !ipc {
		return false
	}
	p := joinPoller()
	if p == nil {
		return false
	}
	// The runtime's own poller would wake a thread for every message: it must not
	// know the descriptor any more.
	fd := -1
	if err := c.raw.conn.Control(func(own uintptr) { fd, _ = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		p.leave()
		return false
	}
	_ = c.nc.Close()
	c.sock = &sock{p: p, fd: fd, tcp: tcp, ended: ended}
	c.nc, c.raw = nil, nil // sock is all that is left of it
	c.in.desk, c.in.scratch = &p.desk, p.scratch
	p.call(c)
	return true
}

func (s *sock) turns() uint32 { return s.p.turn.Load() }

// interest is what epoll is asked to tell of the descriptor.
func (s *sock) interest() *unix.EpollEvent {
	e := &unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.generation}
	if s.polled {
		e.Events |= unix.EPOLLOUT
	}
	return e
}

// shut closes the descriptor, once. Called with Conn.mu held.
func (s *sock) shut() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// release is called by a writer that found the connection closed: if the poller
// left the descriptor to it, it closes it. Called with Conn.mu held.
func (s *sock) release() {
	if s.doomed {
		s.shut()
	}
}

// unacknowledged is what the kernel keeps in case it must send it again, in octets.
// Called with Conn.mu held.
func (s *sock) unacknowledged() int {
	if s.fd < 0 || !s.tcp {
		return 0
	}
	return unacknowledged(s.fd)
}
