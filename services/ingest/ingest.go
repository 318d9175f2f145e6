// Package ingest is the front door of the pipeline: it takes records as lines of
// JSON over TCP, from any language, and answers each once it is durable.
//
//	line -> conn.read -> batcher -> Caller ("transform") -> conn.write -> answer
//
// The one invariant: {"ok": true} is written only after transform has answered
// for that record, and a record keeps its id through every try. So whatever is
// lost on the way (a reply, a worker, a broker) is sent again and lands once.
//
// Start reading at Server.Run, then conn.go (one connection), batch.go (what
// gathers the lines of all connections) and deliver.go (tries and retries). The
// sub-packages are what a client needs: record is the text of a line and of its
// answer, lineclient sends lines; other services and commands may import both.
package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/services/outage"
)

// Service is the name transform is called by.
const Service = "transform"

// Caller is what ingest needs of the mesh; *client.Client is one. Call blocks
// until the answer, an error or ctx's end; body is not kept after it returned.
type Caller interface {
	Call(ctx context.Context, service string, body ...[]byte) ([][]byte, error)
}

// Config of a Server. Caller is required; zero values elsewhere mean the default
// named beside the field.
type Config struct {
	Caller Caller

	// Listen is HOST:PORT, with or without "tcp://"; port 0 picks a free one.
	// Default 127.0.0.1:5570.
	Listen string
	// Insecure allows addresses that other machines can reach: the protocol has
	// neither names nor encryption.
	Insecure bool
	// Listener replaces Listen, in tests.
	Listener net.Listener

	MaxConnections int   // over it: one line says so, and the connection is closed; 1,000
	MaxUnanswered  int   // lines per connection; over it reading pauses; 4,096
	MaxHeld        int64 // octets of unanswered lines over all connections; over it reading pauses; 64 MiB
	MaxBad         int   // unreadable lines in a row that end a connection; 100

	BatchRecords int           // records per call; 500
	BatchBytes   int           // octets per call, about; 1 MiB
	BatchDelay   time.Duration // longest wait for more records while other calls are running; 5 ms
	Batches      int           // calls at once; 8

	CallTimeout  time.Duration // per try; 5 s
	MaxBackoff   time.Duration // upper end of the pause between tries; 2 s
	LineTimeout  time.Duration // for the rest of a line once it has begun; 30 s
	WriteTimeout time.Duration // for a client to take answers; 30 s
	DrainTimeout time.Duration // from the end of Run's ctx until what is unanswered is given up; 3 s

	Logger hclog.Logger // optional
}

// withDefaults fills in zero values and refuses nonsense.
func (c Config) withDefaults() (Config, error) {
	if c.Caller == nil {
		return c, errors.New("ingest: no caller given")
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:5570"
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	err := errors.Join(
		orDefault(&c.MaxConnections, 1000, "max connections"),
		orDefault(&c.MaxUnanswered, 4096, "max unanswered"),
		orDefault(&c.MaxHeld, 64<<20, "max held"),
		orDefault(&c.MaxBad, 100, "max bad"),
		orDefault(&c.BatchRecords, 500, "batch records"),
		orDefault(&c.BatchBytes, 1<<20, "batch bytes"),
		orDefault(&c.BatchDelay, 5*time.Millisecond, "batch delay"),
		orDefault(&c.Batches, 8, "batches"),
		orDefault(&c.CallTimeout, 5*time.Second, "call timeout"),
		orDefault(&c.MaxBackoff, 2*time.Second, "max back-off"),
		orDefault(&c.LineTimeout, 30*time.Second, "line timeout"),
		orDefault(&c.WriteTimeout, 30*time.Second, "write timeout"),
		orDefault(&c.DrainTimeout, 3*time.Second, "drain timeout"),
	)
	if c.MaxHeld < record.MaxLine*2 {
		err = errors.Join(err, fmt.Errorf("ingest: max held of %d octets does not hold one line", c.MaxHeld))
	}
	return c, err
}

func orDefault[T int | int64 | time.Duration](v *T, def T, name string) error {
	if *v < 0 {
		return fmt.Errorf("ingest: %s must not be negative", name)
	}
	if *v == 0 {
		*v = def
	}
	return nil
}

// Server accepts lines. Listen and Run may be called once each; Addr and State
// at any time.
type Server struct {
	cfg      Config
	log      hclog.Logger
	counts   counts
	held     *semaphore.Weighted
	heldNow  atomic.Int64
	batching atomic.Int64 // batches and lone records under way
	outage   *outage.Outage
	answered atomic.Uint64 // calls that were answered
	places   chan struct{} // one for each record that is tried alone

	idPrefix string
	lastID   atomic.Uint64

	submit  chan item      // from every conn.read to the batcher
	readers sync.WaitGroup // conn.read, the only senders on submit

	mu sync.Mutex
	// guards the following
	listener net.Listener
	conns    map[*conn]struct{}
	refusing int // goroutines that tell a client there is no room
}

// New checks cfg. It binds and starts nothing.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	cfg.Listen = strings.TrimPrefix(cfg.Listen, "tcp://")
	if cfg.Listener == nil && !cfg.Insecure {
		if err := checkLoopback(cfg.Listen); err != nil {
			return nil, err
		}
	}
	var prefix [8]byte
	rand.Read(prefix[:])
	return &Server{
		cfg:      cfg,
		log:      cfg.Logger,
		held:     semaphore.NewWeighted(cfg.MaxHeld),
		idPrefix: hex.EncodeToString(prefix[:]) + "-",
		submit:   make(chan item, cfg.BatchRecords),
		listener: cfg.Listener,
		conns:    make(map[*conn]struct{}),
		outage:   outage.New(cfg.Logger, "transform does not answer, records wait", "transform answers again"),
		places:   make(chan struct{}, maxAlone),
	}, nil
}

// checkLoopback refuses addresses that other machines may reach.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("ingest: address %q: want HOST:PORT: %w", address, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("ingest: %s is open to other machines, and the line protocol has no protection: use a loopback address or --insecure", address)
}

// Listen binds the address and returns it as bound, with the port that was
// picked for port 0. Run calls it, if nobody did before.
func (s *Server) Listen(ctx context.Context) (net.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		lc := net.ListenConfig{
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3},
		}
		l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("ingest: listen: %w", err)
		}
		s.listener = l
	}
	return s.listener.Addr(), nil
}

// Run serves until ctx ends: then it stops accepting and reading, answers what
// it has read as far as DrainTimeout allows, closes everything and returns nil.
func (s *Server) Run(ctx context.Context) error {
	if _, err := s.Listen(ctx); err != nil {
		return err
	}
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()

	batcher := newBatcher(s)
	batched := make(chan struct{})
	go func() {
		defer close(batched)
		batcher.run(work)
	}()

	var conns sync.WaitGroup
	accepted := make(chan error, 1)
	go func() { accepted <- s.accept(ctx, work, &conns) }()

	var err error
	select {
	case <-ctx.Done():
		_ = s.listener.Close()
		<-accepted
	case err = <-accepted:
		_ = s.listener.Close()
	}
	drain := time.AfterFunc(s.cfg.DrainTimeout, giveUp)
	defer drain.Stop()
	s.stopReading()
	s.readers.Wait()
	close(s.submit)
	<-batched
	conns.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return err
}

// stopReading tells every connection to take no further line.
func (s *Server) stopReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.lines.stop()
	}
}

// newID makes an id for a record that came without one. It is unique over
// restarts, so it can never meet another record's.
func (s *Server) newID() string {
	return s.idPrefix + strconv.FormatUint(s.lastID.Add(1), 10)
}
