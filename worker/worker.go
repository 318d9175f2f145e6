package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/internal/version"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// DefaultDrainTimeout is how long running handlers may take to finish on shutdown.
const DefaultDrainTimeout = 10 * time.Second

// Handler answers one request: body frames, none or more, or an error. The frames
// may be those of the request; they are copied after the handler has returned.
//
// ctx has the request's deadline, if it has one, and ends when the answer is not
// wanted any more; context.Cause then is mdp.Cancelled, mdp.BrokerLost (another
// worker gets the request) or ErrDrained. The caller sees mdp.AppError and the
// error's text, or, if the error is an *mdp.Error itself, that; a nil one is no error.
// A panic, of the handler or of its error's Error, is an error, too: it is logged, and
// the worker lives on.
type Handler func(ctx context.Context, r *Request) ([][]byte, error)

// ErrDrained is the cause of a handler's context that ended because the worker shuts
// down and DrainTimeout has passed.
var ErrDrained = errors.New("worker shut down before the handler was done")

// Config says what a Worker offers, and to whom.
type Config struct {
	// Brokers are endpoints such as "tcp://127.0.0.1:5555", at least one. The worker
	// has a session with each of them.
	Brokers []string
	// Service is the name offered, 1 to 255 octets. Names that begin with "mmi." are
	// the brokers' own.
	Service string
	// Handler runs at most Concurrency times at once per session, in goroutines of the
	// worker, or, while handlers are very quick, in one that reads connections. What is
	// tied to its goroutine or thread must not outlast it.
	Handler Handler
	// Concurrency is how many requests one session runs at once: 1 (default) to
	// 65,535. Brokers send no more than that.
	Concurrency int
	// Instances is how many sessions there are with each broker. Default 1.
	Instances int
	// Scope is "mesh" (default), or "local": not offered to other brokers.
	Scope string
	// Once makes every request of this worker run at most once: brokers never give
	// what it held to another.
	Once bool
	// Tags are shown in listings of workers.
	Tags []string
	// Logger is optional.
	Logger hclog.Logger
	// DrainTimeout is how long running handlers may take on shutdown. Default 10 s;
	// negative: no time at all.
	DrainTimeout time.Duration
	// Network is optional; nil means the operating system's, tcp and ipc.
	Network zsock.Network
}

// Worker offers one service. Make one with New; it works while Run does.
type Worker struct {
	cfg      Config
	log      hclog.Logger
	instance string
	counters counters
	ready    chan struct{}
	once     sync.Once // closes ready

	mu sync.Mutex // guards the following
	// refused counts the sessions whose broker has last refused them.
	sessions, refused int
}

// New checks cfg and returns a Worker. It starts nothing.
func New(cfg Config) (*Worker, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 1
	}
	if cfg.Instances == 0 {
		cfg.Instances = 1
	}
	if cfg.Scope == "" {
		cfg.Scope = "mesh"
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	var instance [8]byte
	_, _ = rand.Read(instance[:]) // never fails (crypto/rand)
	return &Worker{cfg: cfg, log: cfg.Logger, instance: hex.EncodeToString(instance[:]), ready: make(chan struct{})}, nil
}

func (cfg *Config) check() error {
	switch {
	case len(cfg.Brokers) == 0:
		return errors.New("no broker endpoint given")
	case cfg.Handler == nil:
		return errors.New("no handler given")
	case cfg.Service == "" || len(cfg.Service) > mdp.MaxService:
		return fmt.Errorf("service name of %d octets: want 1 to %d", len(cfg.Service), mdp.MaxService)
	case strings.HasPrefix(cfg.Service, "mmi."):
		return fmt.Errorf("service name %q: names that begin with mmi. are the brokers' own", cfg.Service)
	case cfg.Concurrency < 0 || cfg.Concurrency > math.MaxUint16:
		return fmt.Errorf("concurrency %d: want 1 to %d", cfg.Concurrency, math.MaxUint16)
	case cfg.Instances < 0:
		return fmt.Errorf("instances %d: want 1 or more", cfg.Instances)
	case cfg.Scope != "" && cfg.Scope != "mesh" && cfg.Scope != "local":
		return fmt.Errorf("scope %q: want mesh or local", cfg.Scope)
	}
	for _, endpoint := range cfg.Brokers {
		if !strings.Contains(endpoint, "://") {
			return fmt.Errorf("broker endpoint %q: want something like tcp://127.0.0.1:5555", endpoint)
		}
	}
	return nil
}

// Run connects to the brokers, again and again if need be, and serves until ctx
// ends. Then it drains: it takes no new requests, finishes those that run for up to
// DrainTimeout, cancels the rest, says goodbye and returns nil. It returns an error
// when every broker refuses the worker (mdp.Denied, mdp.BadRequest), and when
// handlers ignore the end of their context.
func (w *Worker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var sessions []*session
	for _, endpoint := range w.cfg.Brokers {
		for range w.cfg.Instances {
			sessions = append(sessions, newSession(w, endpoint, context.WithoutCancel(ctx)))
		}
	}
	w.mu.Lock()
	w.sessions, w.refused = len(sessions), 0
	w.mu.Unlock()
	stuck := make([]error, len(sessions))
	for i, s := range sessions {
		wg.Go(func() { stuck[i] = s.run(ctx, cancel) })
	}
	wg.Wait()
	var refusal *refusal
	if errors.As(context.Cause(ctx), &refusal) {
		return fmt.Errorf("worker %s: %w", w.cfg.Service, refusal)
	}
	return errors.Join(stuck...)
}

// Ready is closed when the first broker has welcomed the worker.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// refusal is a broker's no to HELLO.
type refusal struct {
	endpoint string
	err      error
}

func (r *refusal) Error() string { return r.endpoint + " refused the worker: " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// refuse notes a session's refusal, or its end, and tells whether all are refused.
func (w *Worker) refuse(change int) (all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused += change
	return w.refused == w.sessions
}

func (w *Worker) helloMap(concurrency int) []byte {
	host, _ := os.Hostname()
	return mdp.EncodeMap(&mdp.HelloMap{
		Instance:    w.instance,
		Host:        host,
		PID:         os.Getpid(),
		Version:     version.String(),
		Concurrency: concurrency,
		Scope:       w.cfg.Scope,
		Once:        w.cfg.Once,
		Reads:       true,
		Tags:        w.cfg.Tags,
		Revision:    mdp.Revision,
	})
}
