package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// What stands beside the socket.
const (
	stateSuffix  = ".state"
	lockSuffix   = ".lock"
	notifySuffix = ".notify"
	logsSuffix   = ".logs"
)

// Config is what a Supervisor needs. File and Socket must be set.
type Config struct {
	File        *File
	Socket      string        // path; SOCKET.state, SOCKET.lock and SOCKET.notify stand beside it
	StopTimeout time.Duration // for all children together, when the supervisor ends; default 10 s
	Logger      hclog.Logger  // default: none

	// Locked, if set, is called once it is known that no other supervisor runs and
	// before anything is touched. Its error ends Run.
	Locked func() error
	// Turn, if set, is called from the loop that owns all state, the first time
	// when the socket is bound and children are taken over, then at each turn and
	// at least once per TurnEvery (0: only as things happen). It must not block.
	Turn      func()
	TurnEvery time.Duration
	// Stopping, if set, is called from the same loop when the end begins. It must
	// not block.
	Stopping func()
}

// Supervisor keeps the children of one file running. Its methods may be called
// from any goroutine.
type Supervisor struct {
	config Config
	engine *engine
	hurry  sync.Once
}

// New checks the configuration. It starts nothing and touches no file.
func New(cfg Config) (*Supervisor, error) {
	if cfg.File == nil {
		return nil, errors.New("supervisor: no file")
	}
	if err := checkSocket(cfg.Socket); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	socket, err := filepath.Abs(cfg.Socket) // children in other folders must find it
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if err := checkSocket(socket); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	cfg.Socket = socket
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = defaultStopTimeout
	}
	e := newEngine(cfg.File.children(), cfg.launcher(), cfg.Logger)
	e.bound, e.turn, e.every, e.stopping = cfg.StopTimeout, cfg.Turn, cfg.TurnEvery, cfg.Stopping
	return &Supervisor{config: cfg, engine: e}, nil
}

// launcher starts real processes.
func (cfg Config) launcher() launcher {
	return system{logDir: cfg.logDir(), notify: cfg.Socket + notifySuffix}
}

// logDir is where each child's output goes, appended to NAME.log.
func (cfg Config) logDir() string {
	dir := cfg.File.LogDir
	switch {
	case dir == "":
		return cfg.Socket + logsSuffix
	case filepath.IsAbs(dir):
		return dir
	default:
		return filepath.Join(cfg.File.folder, dir)
	}
}

// Run takes over what an earlier supervisor left running, starts the rest, and
// keeps all running until ctx ends or a shutdown is asked for. Then it stops the
// children in reverse order, within Config.StopTimeout, and returns nil. What OpStop
// had stopped stays so with the next one. Another supervisor on the same socket:
// ErrRunning, and nothing is touched. Run once.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	return nil
}

func (s *Supervisor) run(ctx context.Context) error {
	if err := supported(); err != nil {
		return err
	}
	socket, log := s.config.Socket, s.config.Logger
	for _, dir := range []string{filepath.Dir(socket), s.config.logDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	lock, err := takeLock(socket + lockSuffix)
	if err != nil {
		return err
	}
	defer dropLock(lock)
	if s.config.Locked != nil {
		if err := s.config.Locked(); err != nil {
			return err
		}
	}
	left, err := readNotes(socket + stateSuffix)
	if err != nil {
		return err
	}
	control, err := listenControl(socket, log)
	if err != nil {
		return err
	}
	defer control.listener.Close()
	ready, err := listenReadiness(socket+notifySuffix, log)
	if err != nil {
		return err
	}
	defer ready.close()

	if err := s.takeOver(left); err != nil {
		s.engine.letGo()
		return err
	}
	s.engine.save = s.keep(socket + stateSuffix)
	control.do = s.do
	var servers sync.WaitGroup
	servers.Go(func() { control.serve(context.WithoutCancel(ctx)) })
	servers.Go(func() { ready.serve(s.tellServed) })
	err = s.engine.run(ctx)
	control.close()
	ready.close()
	servers.Wait()
	if err != nil {
		return err
	}
	return s.engine.leave(socket + stateSuffix)
}

// do is what control asks for.
func (s *Supervisor) do(ctx context.Context, op Op, names []string) ([]ChildStatus, error) {
	if op != OpReload {
		return s.engine.do(ctx, op, names)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("%w: reload takes no names", ErrRequest)
	}
	return s.Reload(ctx)
}

// takeOver gives the engine the processes that the notes are about and that still
// run. Those of children the file no longer names are taken over to be stopped.
func (s *Supervisor) takeOver(left []note) error {
	e := s.engine
	for _, n := range left {
		i := slices.IndexFunc(e.children, func(c *child) bool { return c.name == n.Name })
		var c *child
		if i >= 0 {
			c = e.children[i]
			c.held, c.restarts = n.Held, n.Restarts
		}
		stat, ok := survivor(n)
		if !ok {
			if c != nil && (n.Held || n.over(c.restart) && n.Spec == c.digest) {
				e.carryOn(c, n)
			}
			continue
		}
		p, err := adopt(stat)
		if err != nil {
			if alive(stat.pid) { // cannot be watched: a start would make a twin
				return fmt.Errorf("take over %s: %w", n.Name, err)
			}
			continue
		}
		if c == nil {
			c = (&Spec{Name: n.Name}).child("", n.Name)
			c.retired = true
			e.children = append(e.children, c)
		}
		e.takeOver(c, p, n)
		if !c.retired && n.Spec != "" && n.Spec != c.digest {
			s.config.Logger.Warn("the file says something else of this child since it was started: restart it", "child", c.name)
		}
	}
	return nil
}

// keep returns a func that writes the notes. If that fails the children come
// first: they are kept running, and the failure is said once until it is over.
func (s *Supervisor) keep(path string) func([]note) {
	failing := false
	return func(children []note) {
		err := writeNotes(path, children)
		if err != nil && !failing {
			s.config.Logger.Error("state not saved; if the supervisor dies now, the next one may start twins", "error", err)
		}
		failing = err != nil
	}
}

// tellServed hands a readiness note to the engine.
func (s *Supervisor) tellServed(pid int) {
	select {
	case s.engine.served <- pid:
	case <-s.engine.done:
	}
}

// Status returns all children in the order of the file. It blocks for the
// engine's next turn, until ctx ends.
func (s *Supervisor) Status(ctx context.Context) ([]ChildStatus, error) {
	return s.engine.do(ctx, OpStatus, nil)
}

// Hurry makes Run end now: children that still run are killed.
func (s *Supervisor) Hurry() {
	s.hurry.Do(func() { close(s.engine.hurried) })
}
