// Package lineclient sends records to ingest over TCP, as any foreign program
// could: one JSON object per line out, one answer per line back, in order.
// hostmetrics and feed are built on it.
//
// The one invariant: a record accepted by Send stays in the window until its
// answer has come, and is sent again, byte for byte and in order, over every new
// connection before anything newer. With the id it carries that makes a lost
// connection cost time and never a row.
//
// Start reading at Client.Run, then session.go for the life of one connection.
package lineclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

// ErrNoProgress is wrapped by Run's error when Config.GiveUp has passed without
// an answer.
var ErrNoProgress = errors.New("no answer from ingest")

// ErrEnded is returned by Send and Flush once Run has returned.
var ErrEnded = errors.New("line client has ended")

// Rejected is the error of a record that ingest refused; sending it again would
// not help.
type Rejected struct{ Text string }

// Error returns ingest's own words.
func (r *Rejected) Error() string { return r.Text }

// Config says where to and how. Only To is required.
type Config struct {
	// To is ingest's address: "host:port", with or without "tcp://".
	To string
	// Window bounds the records sent or waiting whose answer is outstanding; Send
	// blocks beyond it. Default 1,024, which stays below ingest's own bound.
	Window int
	// Answered is called once per record, in the order of Send, with the tag given
	// there and nil or a *Rejected. It runs in the reader of the connection: it must
	// not block, and must not call the client. Optional.
	Answered func(tag int64, err error)
	// GiveUp ends Run with ErrNoProgress when records are outstanding and no answer
	// has come for so long, connected or not; and at once when what answers first is
	// not ingest (record.ErrBadAnswer). 0 means to try for ever.
	GiveUp time.Duration
	// Backoff bounds the pause before each new connection; it is drawn between 0
	// and a limit that doubles from 50 ms. Default 2 s.
	Backoff time.Duration
	// Dial makes a connection. Default: TCP with keep-alive.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Logger hears of connections made and lost. Optional.
	Logger hclog.Logger
}

const (
	defaultWindow  = 1024
	defaultBackoff = 2 * time.Second
	firstBackoff   = 50 * time.Millisecond
	dialTimeout    = 5 * time.Second
	writeTimeout   = 30 * time.Second
)

// Stats is a snapshot of what the client did.
type Stats struct {
	Connected   bool
	Outstanding int    // accepted by Send, not answered
	OK          uint64 // answered: durable
	Rejected    uint64 // answered: refused
	Resent      uint64 // lines written once more after a lost connection
	Connections uint64 // connections that were made
}

// Client keeps one connection to ingest. Run, Send, Flush and Stats may be used
// from different goroutines; Run only once.
type Client struct {
	cfg     Config
	address string
	ended   chan struct{} // closed when Run returns

	mu sync.Mutex
	// guards the following
	lines    [][]byte // the window as a ring: record i is at i % Window
	tags     []int64
	answered uint64 // records before this one are done
	written  uint64 // the next one to write on this connection
	accepted uint64 // the next one Send will take
	again    uint64 // records before this one were on an earlier connection
	progress time.Time
	err      error // why Run returned
	stats    Stats
	moved    chan struct{} // closed at the next answer; nil while nobody waits

	more chan struct{} // capacity 1: something to write
}

// New checks cfg and returns a client that does nothing until Run.
func New(cfg Config) (*Client, error) {
	address := strings.TrimPrefix(cfg.To, "tcp://")
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address of ingest %q: want HOST:PORT: %w", cfg.To, err)
	}
	if cfg.Window < 0 || cfg.GiveUp < 0 || cfg.Backoff < 0 {
		return nil, errors.New("line client: window, give-up and back-off must not be negative")
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = defaultBackoff
	}
	if cfg.Answered == nil {
		cfg.Answered = func(int64, error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	return &Client{
		cfg:     cfg,
		address: address,
		ended:   make(chan struct{}),
		lines:   make([][]byte, cfg.Window),
		tags:    make([]int64, cfg.Window),
		more:    make(chan struct{}, 1),
	}, nil
}

// dialTCP notices a peer that is gone without a word within eight seconds.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3},
	}
	return d.DialContext(ctx, "tcp", address)
}

// Run connects, sends and reconnects until ctx ends (it then returns nil, with
// whatever is outstanding given up) or Config.GiveUp has passed.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	c.progress = time.Now()
	c.mu.Unlock()
	err := c.run(ctx)
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.ended)
	return err
}

func (c *Client) run(ctx context.Context) error {
	for failures := 0; ; {
		before := c.answers()
		err := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if c.cfg.GiveUp > 0 && c.answers() == 0 && errors.Is(err, record.ErrBadAnswer) {
			return fmt.Errorf("%s: %w", c.address, err) // it will not become ingest
		}
		if c.stalled() {
			return fmt.Errorf("%w at %s for %v: %w", ErrNoProgress, c.address, c.cfg.GiveUp, err)
		}
		if c.answers() != before {
			failures = 0
		}
		if failures == 0 { // once per outage
			c.cfg.Logger.Warn("ingest connection failed, trying again", "to", c.address, "error", err)
		}
		limit := min(c.cfg.Backoff, firstBackoff<<min(failures, 10))
		failures++
		if !c.pause(ctx, rand.N(limit)+1) {
			return nil
		}
	}
}

// pause waits for d and returns false if ctx ended.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// answers counts the answers so far.
func (c *Client) answers() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered
}

// stalled tells whether it is time to give up.
func (c *Client) stalled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.GiveUp > 0 && c.accepted > c.answered && time.Since(c.progress) >= c.cfg.GiveUp
}

// Send queues r, which must carry an id, and returns as soon as there is room in
// the window. tag comes back in Config.Answered. Errors: an *record.Error when r
// breaks the contract, ctx's error, or ErrEnded with Run's reason.
func (c *Client) Send(ctx context.Context, r store.Record, tag int64) error {
	if err := record.Check(r); err != nil {
		return err
	}
	if r.ID == "" {
		return &record.Error{Field: "id", Reason: "empty; without it a resend could double the row"}
	}
	line := append(record.Append(nil, r), '\n')
	for {
		c.mu.Lock()
		if c.accepted-c.answered < uint64(c.cfg.Window) {
			if c.accepted == c.answered {
				c.progress = time.Now()
			}
			at := c.accepted % uint64(c.cfg.Window)
			c.lines[at], c.tags[at] = line, tag
			c.accepted++
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
			return nil
		}
		moved := c.movedLocked()
		c.mu.Unlock()
		if err := c.wait(ctx, moved); err != nil {
			return err
		}
	}
}

// Flush blocks until every record accepted before the call is answered.
func (c *Client) Flush(ctx context.Context) error {
	c.mu.Lock()
	until := c.accepted
	c.mu.Unlock()
	for {
		c.mu.Lock()
		done, moved := c.answered >= until, c.movedLocked()
		c.mu.Unlock()
		if done {
			return nil
		}
		if err := c.wait(ctx, moved); err != nil {
			return err
		}
	}
}

// movedLocked returns the channel that the next answer closes.
func (c *Client) movedLocked() <-chan struct{} {
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.moved
}

// wait blocks until moved is closed, ctx ends or Run has returned.
func (c *Client) wait(ctx context.Context, moved <-chan struct{}) error {
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err != nil {
			return fmt.Errorf("%w: %w", ErrEnded, c.err)
		}
		return ErrEnded
	}
}

// Stats returns a snapshot.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Outstanding = int(c.accepted - c.answered)
	return s
}
