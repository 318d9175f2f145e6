package zsock

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How much a poller does for one connection, and in one round, before it looks
// after the others.
const (
	maxReads = 4
	// maxReadsAhead is the same for a handler that wants to see all there is before
	// it begins.
	maxReadsAhead = 16
	maxEvents     = 256
	maxTaken      = 128 << 10 // octets
	turns         = 8         // rounds after which it yields: the runtime harries a goroutine that never does
)

// smallRest is the most of a cut message that is carried over to the next read by
// copying it.
const smallRest = 4 << 10

// poller serves the connections of handlers that never wait (Config.Shared) from
// one goroutine: it waits for all of them in one system call, reads those that have
// something into one buffer, runs the handler, and writes what that caused. Compared
// with a goroutine per connection it saves the parking and waking of goroutines and
// the read that finds nothing, and an idle connection owns neither stack nor buffer.
//
// A poller starts with its first connection and ends with its last one.
type poller struct {
	epoll, event int // descriptors; event wakes the loop
	batch        Batch
	scratch      *slab   // what is read goes here
	conns        []*Conn // by slot; loop only
	free         []int32 // slots; loop only
	taken        int     // octets read since the last flush; loop only
	rouses       bool    // something came on a connection that was dialled from here; loop only
	generation   int32   // of the last one that came; loop only

	load int // connections given to it; guarded by pollers.mu

	mu     sync.Mutex
	asleep bool    // the loop waits: event must be written
	calls  []*Conn // that want the loop
}

// pollers are those that run. There is one for every two processors: the others
// have work of their own, and a poller is busy only while it has messages to move.
var pollers struct {
	mu  sync.Mutex
	all []*poller
}

// sock is the descriptor of a shared connection.
type sock struct {
	p          *poller
	fd         int         // -1 once closed
	slot       int32       // loop only
	generation int32       // loop only
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
// Called with mu held.
func (c *Conn) share(ended func()) bool {
	if !c.cfg.Shared || c.raw == nil || c.writing || c.closed.Load() {
		return false
	}
	switch c.nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return false
	}
	p := joinPoller()
	if p == nil {
		return false
	}
	// The runtime's own poller would wake a thread for every message: it must not
	// know the descriptor any more.
	fd := -1
	if err := c.raw.Control(func(own uintptr) { fd, _ = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		p.leave()
		return false
	}
	_ = c.nc.Close()
	c.raw, c.rawFunc = nil, nil
	c.sock = &sock{p: p, fd: fd, ended: ended}
	c.in.batch, c.in.scratch = &p.batch, p.scratch
	p.call(c)
	return true
}

// joinPoller finds the poller with the fewest connections, or starts one.
func joinPoller() *poller {
	pollers.mu.Lock()
	defer pollers.mu.Unlock()
	var p *poller
	for _, q := range pollers.all {
		if p == nil || q.load < p.load {
			p = q
		}
	}
	if p == nil || p.load > 0 && len(pollers.all) < max(1, runtime.GOMAXPROCS(0)/2) {
		fresh, err := newPoller()
		if err != nil {
			return p.joined()
		}
		pollers.all = append(pollers.all, fresh)
		go fresh.run()
		p = fresh
	}
	return p.joined()
}

func (p *poller) joined() *poller {
	if p != nil {
		p.load++
	}
	return p
}

// leave is the opposite of joinPoller. The last one to leave lets the loop end.
func (p *poller) leave() {
	pollers.mu.Lock()
	p.load--
	over := p.load == 0
	pollers.mu.Unlock()
	if over {
		p.call(nil)
	}
}

// over tells that nobody needs the poller any more; then it can get no connection
// again.
func (p *poller) over() bool {
	pollers.mu.Lock()
	defer pollers.mu.Unlock()
	if p.load > 0 {
		return false
	}
	for i, q := range pollers.all {
		if q == p {
			pollers.all = append(pollers.all[:i], pollers.all[i+1:]...)
		}
	}
	return true
}

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
		if err == nil {
			p := &poller{epoll: epoll, event: event, scratch: newSlab(maxBuffer)}
			p.batch.prompt = true
			return p, nil
		}
		_ = unix.Close(event)
	}
	_ = unix.Close(epoll)
	return nil, err
}

// call makes the loop look after c soon. It may be called under any lock but the
// poller's own.
func (p *poller) call(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c != nil {
		if c.sock.called {
			return
		}
		c.sock.called = true
	}
	p.calls = append(p.calls, c)
	if p.asleep {
		p.asleep = false
		one := [8]byte{1}
		_, _ = unix.Write(p.event, one[:]) // with mu held: shut must not come between
	}
}

// answer takes the calls; with none it notes that the loop is about to wait.
func (p *poller) answer(calls []*Conn, wait bool) []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls = append(calls[:0], p.calls...)
	clear(p.calls)
	p.calls = p.calls[:0]
	for _, c := range calls {
		if c != nil {
			c.sock.called = false
		}
	}
	p.asleep = wait && len(calls) == 0
	return calls
}

// run is the loop.
func (p *poller) run() {
	events := make([]unix.EpollEvent, maxEvents)
	var calls []*Conn
	for round := 0; ; round++ {
		if round%turns == 0 {
			runtime.Gosched()
		}
		if calls = p.answer(calls, true); len(calls) > 0 {
			for _, c := range calls {
				if c != nil {
					p.called(c)
				}
			}
			clear(calls)
			p.batch.Flush()
			if len(p.conns) == len(p.free) && p.over() {
				break
			}
			continue
		}
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("zsock: epoll: %v", err)) // no descriptor of ours: a bug
		}
		for _, e := range events[:max(n, 0)] {
			p.happened(e)
		}
		p.yield()
		p.taken = 0
		p.batch.Flush()
		p.yield()
		p.rouses = false
	}
	p.shut()
}

// shut ends a poller whose loop is over. Somebody may just now be about to wake it
// for a connection that has ended meanwhile: by then event could be another file.
func (p *poller) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Close(p.epoll)
	_ = unix.Close(p.event)
	p.scratch.release()
}

// yield lets goroutines run that were woken in this round, before the loop takes
// its processor into a system call: else another thread would have to be woken.
func (p *poller) yield() {
	if p.rouses {
		runtime.Gosched()
	}
}

// happened handles one event.
func (p *poller) happened(e unix.EpollEvent) {
	if e.Fd < 0 {
		var drain [8]byte
		_, _ = unix.Read(p.event, drain[:])
		return
	}
	c := p.conns[e.Fd]
	if c == nil || c.sock.generation != e.Pad {
		return // it ended earlier in this round
	}
	if e.Events&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if e.Events&^unix.EPOLLOUT == 0 {
		return
	}
	p.rouses = p.rouses || c.dialled
	err := c.readable()
	c.pause()
	if err != nil {
		p.end(c, err)
	}
	if p.taken > maxTaken { // it is still in the processor's cache
		p.taken = 0
		p.batch.Flush()
	}
}

// called handles a connection that is new, was closed, or whose time is up.
func (p *poller) called(c *Conn) {
	s := c.sock
	if s.gone {
		return
	}
	var err error
	if !s.opened {
		err = p.open(c)
	} else {
		err = c.timeUp()
	}
	if c.closed.Load() {
		err = ErrClosed // the reason is noted already
	}
	if err != nil {
		p.end(c, err)
	}
}

// open begins to serve c. Messages may have come with the handshake.
func (p *poller) open(c *Conn) error {
	s := c.sock
	s.opened = true
	if n := len(p.free); n > 0 {
		s.slot, p.free = p.free[n-1], p.free[:n-1]
	} else {
		s.slot = int32(len(p.conns))
		p.conns = append(p.conns, nil)
	}
	p.conns[s.slot] = c
	p.generation++
	c.mu.Lock()
	s.generation = p.generation
	err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, s.fd, s.interest())
	c.mu.Unlock()
	c.h.Opened(c)
	if err != nil {
		return fmt.Errorf("zsock: epoll: %w", err)
	}
	err = c.handle()
	c.pause()
	return err
}

// interest is what epoll is asked to tell of the descriptor.
func (s *sock) interest() *unix.EpollEvent {
	e := &unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.slot, Pad: s.generation}
	if s.polled {
		e.Events |= unix.EPOLLOUT
	}
	return e
}

// end is the end of a connection.
func (p *poller) end(c *Conn, err error) {
	s := c.sock
	s.gone = true
	c.Close(err)
	c.mu.Lock()
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, s.fd, nil)
	if s.blocked {
		s.blocked, c.writing = false, false
		c.retire()
	}
	if c.writing {
		s.doomed = true
	} else {
		s.shut()
	}
	for _, t := range []*time.Timer{s.timer, s.patience, c.timer} {
		if t != nil {
			t.Stop()
		}
	}
	why := c.reason
	c.mu.Unlock()

	p.conns[s.slot] = nil
	p.free = append(p.free, s.slot)
	c.in.free()
	c.tally.count(why)
	c.h.Closed(c, why)
	s.ended()
	p.leave()
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

// control calls f with the descriptor while it is open. Called with Conn.mu held.
func (s *sock) control(f func(fd uintptr)) {
	if s.fd >= 0 {
		f(uintptr(s.fd))
	}
}

// readable reads what came and handles it. An error ends the connection.
func (c *Conn) readable() error {
	in, s := &c.in, c.sock
	reads := maxReads
	if c.pauser != nil {
		reads = maxReadsAhead
	}
	for range reads {
		in.attach()
		room := in.room()
		n, err := unix.Read(s.fd, room)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			in.detach()
			return nil
		case err != nil:
			return readError(err)
		case n == 0:
			return readError(io.EOF)
		}
		in.took(n)
		s.p.taken += n
		if err := c.handle(); err != nil || n < len(room) {
			return err
		}
	}
	return nil
}

// pause tells a handler that wants to know that it has seen all there was, or as
// much as one connection may bring at a time.
func (c *Conn) pause() {
	if in := &c.in; c.pauser != nil && in.handled {
		in.handled = false
		c.pauser.Paused(in.batch, c)
	}
}

// handle parses what was read, and sees to it that a cut message does not stay so.
func (c *Conn) handle() error {
	in, s := &c.in, c.sock
	in.attach()
	in.handled = in.handled || len(in.pending()) > 0
	err := c.parse()
	in.detach()
	if err != nil {
		return err
	}
	if len(in.pending()) == 0 {
		return nil
	}
	if in.since.IsZero() {
		in.since = time.Now()
	}
	if in.armed {
		return nil // timeUp will look at what is cut then
	}
	in.armed = true
	s.alarm(c, c.patience())
	return nil
}

// alarm makes the loop look after c once d has passed.
func (s *sock) alarm(c *Conn, d time.Duration) {
	if s.timer == nil {
		s.timer = time.AfterFunc(d, func() { s.p.call(c) })
		return
	}
	s.timer.Reset(d)
}

// timeUp handles a call by one of the timers.
func (c *Conn) timeUp() error {
	in, s := &c.in, c.sock
	c.mu.Lock()
	over := c.lingering && !time.Now().Before(s.lingerBy)
	c.mu.Unlock()
	if over {
		return ErrClosed
	}
	if !in.armed || in.since.IsZero() {
		in.armed = false
		return nil
	}
	left := c.patience()
	if left <= 0 {
		return fmt.Errorf("%w: %d octets in %v", ErrProgress, len(in.pending()), time.Since(in.since).Round(time.Second))
	}
	s.alarm(c, left)
	return nil
}

// attach gives in a buffer to read into: the poller's, or, where large messages come
// one after another, one that a whole message fits into, to be shared by reference.
func (in *input) attach() {
	switch {
	case in.buf == nil && in.big == nil && in.hint > 0:
		in.buf = newSlab(in.hint)
		in.size, in.r, in.w, in.filled = len(in.buf.b), 0, 0, false
		return
	case in.buf == in.scratch, in.buf != nil && (in.w-in.r > smallRest || in.big != nil):
		return
	}
	n := 0
	if in.buf != nil {
		n = copy(in.scratch.b, in.buf.b[in.r:in.w])
		in.buf.release()
	}
	in.scratch.retain()
	in.buf, in.size, in.r, in.w, in.filled = in.scratch, len(in.scratch.b), 0, n, false
}

// detach keeps only what was not parsed.
func (in *input) detach() {
	if in.buf == nil {
		return
	}
	rest := in.w - in.r
	switch {
	case rest == 0:
		in.buf.release()
		in.buf, in.size, in.r, in.w = nil, 0, 0, 0
	case in.buf == in.scratch || in.size > 4*rest:
		n := rest
		if rest > smallRest { // the next read goes behind it
			n = max(rest+overread, min(4*rest, maxBuffer))
		}
		in.resize(n)
	}
}

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
