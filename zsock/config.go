package zsock

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Network makes byte streams. A nil Network in [Config] means the
// operating system's, tcp://HOST:PORT and ipc:///PATH; memsock.Net is one that lives in memory.
type Network interface {
	Listen(endpoint string) (net.Listener, error)
	Dial(ctx context.Context, endpoint string) (net.Conn, error)
}

// SocketType is what this side announces in READY; it decides who may connect.
type SocketType string

// The socket types. REQ and REP are spoken to, never spoken as.
const (
	Router SocketType = "ROUTER" // talks to REQ, DEALER, ROUTER (RFC 28)
	Dealer SocketType = "DEALER" // talks to ROUTER, REP, DEALER (RFC 28)
	Pub    SocketType = "PUB"    // talks to SUB, XSUB (RFC 29)
	XPub   SocketType = "XPUB"   // talks to SUB, XSUB (RFC 29)
	Sub    SocketType = "SUB"    // talks to PUB, XPUB (RFC 29)
	XSub   SocketType = "XSUB"   // talks to PUB, XPUB (RFC 29)
	req    SocketType = "REQ"
	rep    SocketType = "REP"
)

// talksTo is the allow-list of RFC 28 and 29: own type to the peers' types.
var talksTo = map[SocketType][]SocketType{
	Router: {req, Dealer, Router},
	Dealer: {Router, rep, Dealer},
	Pub:    {Sub, XSub},
	XPub:   {Sub, XSub},
	Sub:    {Pub, XPub},
	XSub:   {Pub, XPub},
}

// publishes tells the types whose peers send subscriptions.
func (t SocketType) publishes() bool { return t == Pub || t == XPub }

// Handler is told what happens on connections. Its methods run in the goroutine that
// reads the connection, one after another per connection and in parallel over
// connections. That goroutine is the connection's own, and a handler that waits stops
// that connection only, unless [Config].Shared says that it never waits: then it may
// be a poller's, and all connections of the poller stand still with it.
type Handler interface {
	// Opened comes once, before any message.
	Opened(c *Conn)
	// Message comes once per message. m, its frames and the bodies borrowed from it
	// are valid until Message returns; [Body.Hold] keeps a body longer. Answers sent
	// with b leave together when everything that was read is parsed.
	//
	// On Pub and XPub connections messages are subscriptions: one frame, octet 01
	// (subscribe) or 00 (cancel) and the prefix, whichever form the peer used.
	Message(b *Batch, c *Conn, m *Msg)
	// Closed comes once, after the last Message. err is never nil and says why. What
	// is sent with b leaves when the other connections that had something to say have
	// been heard, too: some of them may have ended as well.
	Closed(b *Batch, c *Conn, err error)
}

// Pauser is a [Handler] that wants to know when it has seen every message that was
// read so far: the reader calls Paused then, before it flushes and reads on. On
// shared connections that is when the socket has nothing more, or has brought about
// 1 MiB without a pause; elsewhere after each read. A poller lets the goroutines run
// that Paused has woken, so that what they send goes into the same write: a handler
// that wakes nobody is better off without it, as each such yield may wake a thread, or
// sends the reader itself on an errand ([Conn.Errand]).
type Pauser interface {
	Paused(b *Batch, c *Conn)
}

// Refuser is a [Handler] that wants to know which message was beyond a limit: Refused
// comes before Closed, if the first frame of it came. first is valid until it returns.
type Refuser interface {
	Refused(c *Conn, first []byte)
}

// Config says how sockets behave. The zero value of every field but Type means
// the default in its comment.
type Config struct {
	Type SocketType

	MaxMessage        int64 // payload octets per message, both ways: 64 MiB; 1 TiB at most
	MaxFrames         int   // frames per message, both ways: 1,024
	HighWaterBytes    int   // octets queued per peer: 8 MiB; an empty queue takes one message of any permitted size, and behind it small ones
	HighWaterMessages int   // messages queued per peer, once the kernel does not take all at once: 10,000

	Backlog *Backlog // bounds what is queued for all peers together; nil: nothing does

	MaxConns      int // open connections per listener: 16,384; over it the newest is closed, and from half of it on the newest of a host with more than four times what is free
	MaxHandshakes int // unfinished handshakes per listener: 1,024; over it the oldest is closed

	// Unfinished bounds the memory of large messages that are not complete, over all who
	// have the same one. Nil: 1 GiB for each listener; a dialled connection has one message.
	Unfinished *Budget

	HandshakeTimeout time.Duration // from accept or connect to READY: 2 s
	ProgressTimeout  time.Duration // for a message that was begun, beside 1 s per 64 KiB received: 30 s
	WriteTimeout     time.Duration // without the peer taking a single octet: 30 s

	// Shared says that the handler's methods never wait. Then connections may be read
	// by goroutines that they share, where the system has a way: much cheaper in time
	// and memory, but a handler that does wait stops others.
	Shared bool

	Network Network      // nil: the operating system's, tcp and ipc
	Logger  hclog.Logger // nil: silent

	// mechanism makes the security of one connection; nil means NULL. It is the
	// seam where CURVE plugs in.
	mechanism func(own SocketType, server bool) mechanism
}

// withDefaults checks c and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	if _, ok := talksTo[c.Type]; !ok {
		return c, fmt.Errorf("zsock: config: unknown socket type %q: use ROUTER, DEALER, PUB, SUB, XPUB or XSUB", string(c.Type))
	}
	orDefault(&c.MaxMessage, 64<<20)
	c.MaxMessage = min(c.MaxMessage, maxPermitted)
	orDefault(&c.MaxFrames, 1024)
	orDefault(&c.HighWaterBytes, 8<<20)
	orDefault(&c.HighWaterMessages, 10_000)
	orDefault(&c.MaxConns, 16_384)
	orDefault(&c.MaxHandshakes, 1024)
	orDefault(&c.HandshakeTimeout, 2*time.Second)
	orDefault(&c.ProgressTimeout, 30*time.Second)
	orDefault(&c.WriteTimeout, 30*time.Second)
	if c.Unfinished == nil {
		c.Unfinished = NewBudget(0)
	}
	if c.Network == nil {
		c.Network = system{}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.mechanism == nil {
		c.mechanism = newNull
	}
	return c, nil
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
