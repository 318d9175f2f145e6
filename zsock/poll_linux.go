package zsock

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How much a poller does in one round before it writes what that caused.
const (
	maxEvents = 256
	maxTaken  = 128 << 10 // octets
	// yieldEvery is when it lets go of its processor: the runtime harries a goroutine
	// that has not done so for 10 ms, and takes the processor away in each system call.
	yieldEvery = 5 * time.Millisecond
)

// How a poller waits.
const (
	looks        = 50  // before it is put to sleep: about as many microseconds
	longLooks    = 200 // the same, behind a round that brought much
	maxFruitless = 63
)

// much is how many octets a round brings that brings much: some ten small messages.
const much = 1 << 10

// poller serves the connections of handlers that never wait (Config.Shared) from
// one goroutine: it waits for all of them in one system call, reads those that have
// something into one buffer, runs the handler, and writes what that caused. Compared
// with a goroutine per connection it saves the parking and waking of goroutines and
// the read that finds nothing, and an idle connection owns neither stack nor buffer.
//
// A poller starts with its first connection and ends with its last one.
type poller struct {
	epoll, event int // descriptors; event wakes the loop
	desk         desk
	scratch      *slab    // what is read goes here
	conns        []*Conn  // by slot; loop only
	free         []int32  // slots; loop only
	taken        int      // octets read since the last flush; loop only
	brought      int      // octets that the last round read; loop only
	rouses       bool     // a handler may have woken goroutines in this round; loop only
	generation   int32    // of the last one that came; loop only
	fruitless    int      // waits that need not be put off, after ones that were in vain; loop only
	direct       int      // of those, how many are left; loop only
	errands      []errand // for when all that was read is handled; loop only

	turn atomic.Uint32 // odd while the loop is at work

	load int // connections given to it; guarded by pollers.mu

	mu     sync.Mutex
	asleep bool    // the loop waits: event must be written
	calls  []*Conn // that want the loop
	away   *Conn   // on whose errand the loop is, or nil
	trip   uint64  // number of the errand: another one says that the loop is somebody else's
}

// pollers are those that run. There is one for every two processors: the others
// have work of their own, and a poller is busy only while it has messages to move.
var pollers struct {
	mu  sync.Mutex
	all []*poller
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
			p.desk.batch.prompt = true
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

// run is the loop, until there are no connections any more or another goroutine has it.
func (p *poller) run() {
	events := make([]unix.EpollEvent, maxEvents)
	var calls []*Conn
	for yielded := time.Now(); ; {
		if !p.runErrands() {
			return
		}
		if time.Since(yielded) >= yieldEvery {
			runtime.Gosched()
			yielded = time.Now()
		}
		if calls = p.answer(calls, true); len(calls) > 0 {
			p.turn.Add(1)
			for _, c := range calls {
				if c != nil {
					p.called(c)
				}
				p.unload()
			}
			clear(calls)
			p.desk.batch.Flush()
			p.turn.Add(1)
			if len(p.errands) == 0 && len(p.conns) == len(p.free) && p.over() {
				break
			}
			continue
		}
		n, err := p.wait(events)
		if err != nil && err != unix.EINTR {
			panic(fmt.Sprintf("zsock: epoll: %v", err)) // no descriptor of ours: a bug
		}
		p.turn.Add(1)
		p.brought = 0
		for _, e := range events[:max(n, 0)] {
			p.happened(e)
		}
		p.brought, p.taken = p.brought+p.taken, 0
		p.yield()
		if p.brought > much {
			// Who was woken first has had a thread woken, which takes the loop at once,
			// before the others have had their turn.
			p.yield()
			p.yield()
		}
		p.desk.batch.Flush()
		p.yield()
		p.rouses = false
		p.turn.Add(1)
	}
	p.shut()
}

// wait waits for events. While the machine is busy the next one is near, and being put
// to sleep and woken takes longer than looking for it a few times, and costs more. In
// between others may have the processor. Who had much to do looks longer: many calls are
// under way then, and all of them wait for whoever has to be woken. Where looking is in
// vain it soon is not tried any more, but for one wait in maxFruitless.
func (p *poller) wait(events []unix.EpollEvent) (int, error) {
	if p.direct > 0 {
		p.direct--
		return unix.EpollWait(p.epoll, events, -1)
	}
	limit := looks
	if p.brought > much {
		limit = longLooks
	}
	for range limit {
		if n, err := unix.EpollWait(p.epoll, events, 0); n != 0 || err != nil {
			p.fruitless /= 2
			return n, err
		}
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // never fails
	}
	p.fruitless = min(2*p.fruitless+1, maxFruitless)
	p.direct = p.fruitless
	return unix.EpollWait(p.epoll, events, -1)
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
	err := c.readable()
	c.pause()
	if err != nil {
		p.end(c, err)
	}
	if p.taken > maxTaken { // it is still in the processor's cache
		p.brought, p.taken = p.brought+p.taken, 0
		p.desk.batch.Flush()
	}
	p.unload()
}

// unload writes before the round is over what could be too much for one peer's queue:
// the end of many connections may be news for a single one.
func (p *poller) unload() {
	if p.desk.batch.Heavy() {
		p.desk.batch.FlushNow()
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
	c.h.Closed(&p.desk.batch, c, why)
	s.ended()
	p.leave()
}
