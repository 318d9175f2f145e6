package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/mem"
)

// Defaults of a Config.
const (
	DefaultListen     = "127.0.0.1:8080"
	DefaultPoll       = 500 * time.Millisecond
	DefaultMaxClients = 1000
)

// shutdownGrace is how long clients get to take their goodbye and requests to
// finish once Run's context has ended; whatever is left then is closed hard.
const shutdownGrace = 500 * time.Millisecond

// Config says what to serve and where.
type Config struct {
	Store      store.Reader                 // required; stays the caller's to close, after Run
	Listen     string                       // TCP address, default 127.0.0.1:8080; port 0 picks a free one
	Listening  func(addr string)            // optional; called once, with the bound host:port
	Poll       time.Duration                // how often the store is read without a hint, default 500 ms
	MaxClients int                          // websockets at once, default 1,000; more get 503
	Cache      mem.CacheConfig              // bounds of the last value cache
	Logger     hclog.Logger                 // optional
	listen     func() (net.Listener, error) // tests: a listener in memory
}

// Service is the server. Make it with New, start it with Run.
type Service struct {
	config   Config
	log      hclog.Logger
	cache    *mem.Cache
	follower *follower
	clients  clients
	counters counters
	files    map[string]file
	addr     atomic.Pointer[string]
	started  atomic.Bool
}

// New checks the config. It starts nothing and opens nothing.
func New(c Config) (*Service, error) {
	if c.Store == nil {
		return nil, errors.New("push: no store given")
	}
	if c.MaxClients < 0 || c.Poll < 0 {
		return nil, errors.New("push: poll interval and max clients must not be negative")
	}
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	c.Poll = cmp.Or(c.Poll, DefaultPoll)
	c.MaxClients = cmp.Or(c.MaxClients, DefaultMaxClients)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	files, err := loadPage()
	if err != nil {
		return nil, fmt.Errorf("push: load page: %w", err)
	}
	s := &Service{config: c, log: c.Logger, cache: mem.NewCache(c.Cache), files: files}
	s.clients.max = c.MaxClients
	s.follower = &follower{
		store: c.Store, cache: s.cache, poll: c.Poll, log: c.Logger,
		hint: make(chan struct{}, 1), changed: s.clients.wake,
	}
	return s, nil
}

// Hint says that the store may have something new. It never blocks; hints that
// come before the store was read again count as one.
func (s *Service) Hint() { s.follower.wake() }

// Addr is the bound host:port, or "" while there is none.
func (s *Service) Addr() string {
	if addr := s.addr.Load(); addr != nil {
		return *addr
	}
	return ""
}

// Run serves until ctx ends and then returns nil, within a second: websockets
// get close code 1001, requests under way are finished or cut. It fails at once
// if the address cannot be bound, and later if the store is unusable (a damaged
// file). It may be called once.
func (s *Service) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("push: run: called twice")
	}
	listener, err := s.bind()
	if err != nil {
		return fmt.Errorf("push: listen on %s: %w", s.config.Listen, err)
	}
	addr := listener.Addr().String()
	s.addr.Store(&addr)
	if s.config.Listening != nil {
		s.config.Listening(addr)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := s.server(ctx)
	var running sync.WaitGroup
	var broken error
	running.Go(func() {
		defer stop()
		broken = s.follower.run(ctx)
	})
	running.Go(func() {
		<-ctx.Done()
		s.shutdown(server)
	})
	err = server.Serve(limit(listener, s.config.MaxClients+plainConns))
	stop()
	running.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("push: serve: %w", err)
	}
	if broken != nil {
		return fmt.Errorf("push: %w", broken)
	}
	return nil
}

func (s *Service) bind() (net.Listener, error) {
	if s.config.listen != nil {
		return s.config.listen()
	}
	return net.Listen("tcp", s.config.Listen)
}

func (s *Service) server(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           s.handler(ctx),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// shutdown ends requests and websockets together: the server does not know the
// websockets any more, they were hijacked.
func (s *Service) shutdown(server *http.Server) {
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	var ending sync.WaitGroup
	ending.Go(func() {
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	ending.Go(func() { s.clients.drain(grace) })
	ending.Wait()
}

// Stats are counters since the start, and gauges of this moment.
type Stats struct {
	Clients  int               // websockets open now
	Points   uint64            // points read from the store
	Polls    uint64            // reads of the store for news, the failed ones included
	Failures uint64            // reads of the store for news that failed
	Ended    map[string]uint64 // websockets that ended or were refused, by reason
	Cache    mem.CacheStats
}

// Stats returns the counters at this moment.
func (s *Service) Stats() Stats {
	return Stats{
		Clients:  s.clients.count(),
		Points:   s.follower.points.Load(),
		Polls:    s.follower.polls.Load(),
		Failures: s.follower.failures.Load(),
		Ended:    s.counters.byReason(),
		Cache:    s.cache.Stats(),
	}
}
