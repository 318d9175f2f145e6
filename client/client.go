package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/internal/version"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Defaults of Config.
const (
	DefaultTimeout    = 5 * time.Second
	DefaultMaxCalls   = 100_000
	DefaultMaxMessage = 64 << 20
)

// Config says which brokers a Client talks to.
type Config struct {
	// Brokers are endpoints such as "tcp://127.0.0.1:5555", at least one. The first
	// that answers is used until it fails; then another one, at once: a second
	// connection is kept warm. Brokers name further ones, up to 64 in all, which are
	// used like these. Names of hosts are resolved with each dial.
	Brokers []string
	// Timeout is the total deadline, retries included, of calls that have neither a
	// timeout nor a context with a deadline. Default 5 s.
	Timeout time.Duration
	// MaxCalls bounds the outstanding calls; further ones get mdp.Busy. Default 100,000.
	MaxCalls int
	// MaxMessage bounds a request and an answer, in octets: 64 MiB. The broker's own
	// bound holds, too. A larger request gets mdp.TooBig and is not sent; so does a
	// call with a larger answer, which has run and costs the connection.
	MaxMessage int64
	// Instance is by what brokers know the client again that made a detached call (see
	// Attach): any text that nobody else can guess. Default: one of this process.
	Instance string
	// Logger is optional.
	Logger hclog.Logger
	// Network is optional; nil means the operating system's, tcp and ipc.
	Network zsock.Network
}

// Errors of this package. Errors of calls are *Error values around one of these or
// around an *mdp.Error.
var (
	// ErrClosed is what calls get when the Client is, or gets, closed. One that was sent
	// has an *mdp.Error beside it, as it may have run.
	ErrClosed = errors.New("client closed")
	// ErrNoBroker means that no broker could be reached before the deadline.
	ErrNoBroker = errors.New("no broker reachable")
	// ErrRestarted is yielded by Stream once per restart of a Restartable call: what
	// comes behind it, partials or the final alone, is of another attempt.
	ErrRestarted = errors.New("restarted: partials begin anew")
)

// Client is a connection, or a few, to the mesh. Make one with New and share it.
type Client struct {
	cfg   Config
	log   hclog.Logger
	hello []byte // the encoded map of HELLO

	ctx       context.Context // ends with Close; the parent of all goroutines
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	epoch     time.Time     // of instants
	flushes   chan struct{} // capacity 1: async has something to flush
	exchanges sync.Pool     // of *exchange, idle
	publisher publisher
	counters  counters

	mu sync.Mutex // guards the following
	// started tells that the first call was made, flushing that flushAsync runs, closed
	// that Close was called.
	started, flushing, closed bool
	// keepers is how many run: the second one holds the warm connection that fail-over
	// goes to, once there is a second broker.
	keepers int
	slots   []slot
	free    []uint32 // indexes of empty slots
	// active is the link that new requests take, or nil. links are all open ones,
	// the warm one and those that drain included.
	active  *link
	links   []*link
	brokers []*broker
	// news is closed, and replaced, when a WELCOME arrives or a broker is given back.
	news   chan struct{}
	budget budget
	vigil  vigil
	// async collects what Go sends until the flusher takes it.
	async *zsock.Batch
	// alarm runs look; alarmAt is when, or never.
	alarm   *time.Timer
	alarmAt instant
	// command, head and frames are scratch space of encode and send.
	command mdp.Command
	head    [mdp.MaxHead]byte
	frames  [][]byte
}

// New checks cfg and returns a Client. It dials nothing; the first call does.
func New(cfg Config) (*Client, error) {
	if len(cfg.Brokers) == 0 || len(cfg.Brokers) > maxBrokers {
		return nil, fmt.Errorf("client: %d broker endpoints given: give 1 to %d", len(cfg.Brokers), maxBrokers)
	}
	if cfg.Timeout < 0 || cfg.MaxCalls < 0 || cfg.MaxMessage < 0 {
		return nil, errors.New("client: timeout, max calls and max message must not be negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = DefaultMaxCalls
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = DefaultMaxMessage
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Client{
		cfg:     cfg,
		log:     cfg.Logger,
		hello:   mdp.EncodeMap(whoAmI(cfg.Instance)),
		epoch:   time.Now(),
		alarmAt: never,
		flushes: make(chan struct{}, 1),
		news:    make(chan struct{}),
		async:   new(zsock.Batch),
		frames:  make([][]byte, 0, 8),
	}
	for i, endpoint := range cfg.Brokers {
		if !strings.Contains(endpoint, "://") {
			return nil, fmt.Errorf("client: broker endpoint %q: want something like tcp://127.0.0.1:5555", endpoint)
		}
		for _, other := range cfg.Brokers[:i] {
			if other == endpoint {
				return nil, fmt.Errorf("client: broker endpoint %q is given twice", endpoint)
			}
		}
		c.brokers = append(c.brokers, &broker{endpoint: endpoint})
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.alarm = time.AfterFunc(time.Hour, c.look)
	c.alarm.Stop()
	c.exchanges.New = func() any { return newExchange(c) }
	c.publisher.init(c)
	return c, nil
}

// Close ends all outstanding calls with ErrClosed, those that may have run also with
// mdp.BrokerLost, says goodbye to the brokers and
// waits for the client's goroutines: about a second at most, if a broker does not
// read. Only the first call does anything; all wait.
func (c *Client) Close() error {
	var b zsock.Batch
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.alarm.Stop()
		c.vigil.end()
		for i := range c.slots {
			if x := c.slots[i].x; x != nil {
				c.close(x)
			}
		}
		for _, l := range c.links {
			l.bye(&b, ErrClosed)
		}
	}
	c.mu.Unlock()
	b.Flush()
	c.cancel()
	c.wg.Wait()
	return nil
}

// start begins to connect, once. Callers hold mu and have checked closed.
func (c *Client) start() {
	if c.started {
		return
	}
	c.started = true
	c.man()
}

// flushAsync flushes what Go sent. One flush takes what all callers sent meanwhile.
func (c *Client) flushAsync() {
	spare := new(zsock.Batch)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.flushes:
		}
		c.mu.Lock()
		spare, c.async = c.async, spare
		c.mu.Unlock()
		spare.Flush()
	}
}

// process is what tells this process apart: the prefix of all its request ids, the
// counter behind it, and the instance id of HELLO, which must not be derivable
// from request ids.
var process = struct {
	prefix   [8]byte
	instance string
	requests atomic.Uint64
}{prefix: octets(), instance: func() string { p := octets(); return hex.EncodeToString(p[:]) }()}

func octets() (p [8]byte) {
	_, _ = rand.Read(p[:]) // never fails (crypto/rand)
	return p
}

func whoAmI(instance string) *mdp.HelloMap {
	host, _ := os.Hostname()
	return &mdp.HelloMap{
		Instance: cmp.Or(instance, process.instance),
		Host:     host,
		PID:      os.Getpid(),
		Version:  version.String(),
		Revision: mdp.Revision,
	}
}
