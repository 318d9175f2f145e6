package zsock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// longAgo is a deadline that wakes whoever waits on a connection.
var longAgo = time.Unix(1, 0)

// lingerTime is how long a connection that has said its last waits for the peer to
// end it: closing with unread octets would make the kernel take back what the peer
// has not read yet.
const lingerTime = time.Second

// Conn is one connection to one peer. Its methods may be called by any goroutine.
//
// A life: [Dial] or the [Listener] shakes hands; Run reads until the end and tells
// the [Handler]; Close and CloseAfterFlush, or the peer, end it.
type Conn struct {
	// User belongs to the handler. Set it in Opened, or before Run when dialled.
	User any

	nc     net.Conn
	cfg    *Config
	h      Handler
	pauser Pauser // h, if it is one
	peer   Peer
	sealer sealer
	tally  *tally
	in     input // reader goroutine only

	sock *sock // set by run if a poller serves the connection: then there is no nc
	raw  *raw  // one of sock, raw and try, or none
	try  tryWriter

	closed  atomic.Bool // Close was called; written under mu
	discard atomic.Bool // CloseAfterFlush was called: nothing is delivered any more
	writers sync.WaitGroup

	mu        sync.Mutex
	running   bool
	shut      bool  // nothing more is taken for sending
	lingering bool  // output is over; input until EOF or lingerTime
	reason    error // why the connection ends; the first one stays
	timer     *time.Timer
	pending   *chunk // encoded, not yet taken by a writer
	pongs     []byte // PONG commands, ahead of pending
	precedes  bool   // written to before others of its batch
	marked    bool   // in a batch that is about to be flushed
	writing   bool   // somebody owns cur
	inside    bool   // and writes it just now, without mu
	behind    bool   // the kernel did not take all, and has not caught up since
	cur       *chunk // being written, by its owner
	messages  int    // in pending and cur
	octets    int    // in pending and cur
	counted   int    // of these, in the backlog
	beyond    int    // octets of small messages, taken since the queue was last below its mark
	taken     uint32 // messages for sending, ever
	unwritten uint32 // of these the last ones, dropped before an octet of them was written
	writes    uint32 // that brought octets on their way, ever
}

// tryWriter is what connections that are not sockets may have: a write that never
// waits, and takes nothing when it would have to.
type tryWriter interface {
	TryWrite(p []byte) (n int, err error)
}

// raw is a descriptor that the runtime's poller knows.
type raw struct {
	conn  syscall.RawConn
	write func(fd uintptr) bool // writeRaw

	// Of the current writer:
	n    int
	err  error
	wait bool
}

func newConn(l *link, cfg *Config, h Handler, t *tally) *Conn {
	c := &Conn{nc: l.nc, cfg: cfg, h: h, peer: l.peer, sealer: l.sealer, tally: t}
	c.pauser, _ = h.(Pauser)
	c.in.init(cfg, l.sealer, l.rest)
	switch nc := l.nc.(type) {
	case tryWriter:
		c.try = nc
	case syscall.Conn:
		// Windows cannot be asked to take what it can at once: a goroutine writes it all.
		if conn, err := nc.SyscallConn(); err == nil && runtime.GOOS != "windows" {
			c.raw = &raw{conn: conn}
			c.raw.write = c.writeRaw
		}
	}
	return c
}

// Dial connects to endpoint and shakes hands. Nothing is delivered until Run. ctx
// bounds connecting and the handshake, which also ends after cfg.HandshakeTimeout.
// A connection that is never run must be closed.
func Dial(ctx context.Context, endpoint string, cfg Config, h Handler) (*Conn, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	nc, err := cfg.Network.Dial(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("zsock: dial %s: %w", endpoint, err)
	}
	l, err := shake(ctx, nc, &cfg, false)
	if err != nil {
		return nil, fmt.Errorf("zsock: dial %s: %w", endpoint, err)
	}
	c := newConn(l, &cfg, h, new(tally))
	return c, nil
}

// Peer is who is at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Reads counts how often octets have come, of whole messages or of parts, one system
// call each. Whoever looks twice and sees it grow knows that the peer is alive, also
// while a message larger than the link is fast is under way.
func (c *Conn) Reads() uint32 { return c.in.reads.Load() }

// Writes counts how often octets have gone, one system call each; it wraps, as Reads
// does.
func (c *Conn) Writes() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// Turns counts how often whoever reads this connection, and others beside it, has begun
// and ended to handle what came: it is odd in between. Whoever looks twice and sees the
// same odd number knows that meanwhile nothing was read, whatever came. It is 0 of a
// connection with a reader of its own.
func (c *Conn) Turns() uint32 {
	if c.sock == nil {
		return 0
	}
	return c.sock.turns()
}

// Queued is what waits to be written: messages and octets in wire form.
func (c *Conn) Queued() (messages, octets int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages, c.octets
}

// Unsent is what has not arrived at the peer's host, in octets: what waits here,
// and, of TCP on Linux, what the kernel has not seen acknowledged. What the peer's
// kernel holds for a process that does not read cannot be seen from here. It makes
// a system call.
func (c *Conn) Unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	octets := c.octets
	if c.sock != nil {
		return octets + c.sock.unacknowledged()
	}
	if _, tcp := c.nc.LocalAddr().(*net.TCPAddr); tcp && c.raw != nil {
		_ = c.raw.conn.Control(func(fd uintptr) { octets += unacknowledged(int(fd)) })
	}
	return octets
}

// Unwritten tells of a connection that has ended whether the message with this
// number (see [Conn.SendNumbered]) was dropped before any octet of it was written:
// then the peer cannot have seen it. False means that it may have.
func (c *Conn) Unwritten(number uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed.Load() && c.taken-number < c.unwritten
}

// maxPermitted is the largest bound on messages: lengths are reckoned with.
const maxPermitted = min(1<<40, math.MaxInt/2)

// Permit bounds messages that come from now on, in place of MaxMessage, for a peer that
// says how large they may get. The handler may call it, from within Message, and who
// dialled, before Run.
func (c *Conn) Permit(octets int64) {
	octets = min(octets, maxPermitted)
	in := &c.in
	in.scan.maxMessage = octets
	if in.clear != nil {
		in.scan.maxMessage += int64(in.sealer.overhead())
		in.clear.maxMessage = octets
	}
}

// Precede makes every Flush from now on write what waits for c before what waits for
// others: for a peer that stands idle until it has it.
func (c *Conn) Precede() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.precedes = true
}

// Run reads until the connection ends or ctx does, calls the handler, and returns
// why it ended, never nil. It is for dialled connections, once each: a [Listener]
// runs those it accepts.
func (c *Conn) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.Close(fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx))) })
	defer stop()
	return c.run()
}

func (c *Conn) run() error {
	done := make(chan struct{})
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("zsock: run: connection was already run: dial a new one")
	}
	c.running = true
	shared := c.share(func() { close(done) })
	c.mu.Unlock()
	if !shared {
		return c.serve()
	}
	<-done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Start is Run without waiting for the end: it calls ended then, which must not wait.
// It saves a goroutine where connections are shared. Like Run it is for dialled
// connections, and once.
func (c *Conn) Start(ended func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = true
	if c.share(ended) {
		return
	}
	go func() {
		defer ended()
		_ = c.serve() // the handler is told why
	}()
}

// serve is the life of a connection that has a goroutine of its own.
func (c *Conn) serve() error {
	c.in.desk = new(desk)
	c.h.Opened(c)
	c.Close(c.read())
	c.writers.Wait()
	_ = c.nc.Close()
	c.in.free()

	c.mu.Lock()
	why := c.reason
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.tally.count(why)
	c.h.Closed(&c.in.desk.batch, c, why)
	c.in.desk.batch.Flush()
	return why
}

// Close ends the connection for the reason err (nil means [ErrClosed]) and drops
// what is queued. It returns at once; the reader goroutine ends and calls
// Handler.Closed. The first reason stays. It may be called under any lock, also
// from within the handler.
func (c *Conn) Close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(err)
}

func (c *Conn) closeLocked(err error) {
	if c.closed.Load() {
		return
	}
	c.closed.Store(true)
	c.shut = true
	c.because(err)
	c.dropPending()
	if !c.running {
		_ = c.nc.Close() // no reader will do it
		return
	}
	if c.sock != nil {
		c.sock.p.call(c)
		return
	}
	// The reader closes: closing here would wait for whoever is inside a read or write.
	_ = c.nc.SetDeadline(longAgo)
}

// because notes why the connection ends, once.
func (c *Conn) because(err error) {
	if err == nil {
		err = ErrClosed
	}
	if c.reason == nil {
		c.reason = err
	}
}

// CloseAfterFlush ends the connection when what is queued is written, or after
// WriteTimeout. From now on Send refuses, and what the peer still sends is read
// and thrown away. Otherwise it is like Close.
func (c *Conn) CloseAfterFlush(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return
	}
	c.shut = true
	c.discard.Store(true)
	c.because(err)
	if !c.writing && !c.load() {
		c.linger()
		return
	}
	c.timer = time.AfterFunc(c.cfg.WriteTimeout, func() { c.Close(nil) })
	if !c.writing {
		c.writing = true
		c.finishLater()
	}
}

// linger says to the peer that nothing more comes, and leaves it lingerTime to say
// the same. Called with mu held, when nobody writes.
func (c *Conn) linger() {
	if !c.running {
		c.closeLocked(nil)
		return
	}
	if c.lingering || c.closed.Load() {
		return
	}
	c.lingering = true
	if c.sock != nil {
		c.sock.stopTalking(c)
		return
	}
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
}
