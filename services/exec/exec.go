// Package exec answers each request by running a program: the body on its
// standard input, its standard output as the reply. So a service can be written
// in any language, without a ZeroMQ library.
//
// With Persistent, programs stay and answer one request after another, in frames on
// the same two pipes (docs/EXEC.md).
//
// The one invariant: a program never works on a request that is over. It runs in a
// process group of its own, which is killed at the deadline, on cancel, and when the
// worker loses its broker; and the program itself dies with the worker, even if
// that is killed (its own children may survive then).
//
// Run forks all programs from one thread (fork.go says why); Handle asks it to, and
// waits for the program. Start at Handle; for programs that stay at keep
// (persistent.go), then child.go for one of them and frames.go for what is said.
package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
)

// Limits of one run.
const (
	// DefaultMaxReply bounds standard output in octets.
	DefaultMaxReply = 64 << 20
	stderrKept      = 4 << 10
	// pipeGrace is how long output may trickle in after the program has ended:
	// descendants it left behind can hold the pipe open.
	pipeGrace = 500 * time.Millisecond
)

// Config says what to run.
type Config struct {
	Command  []string // program and arguments; found by PATH
	MaxReply int      // octets; default DefaultMaxReply
	// Persistent keeps programs running, each for one request after another, instead
	// of starting one per request; docs/EXEC.md says how they are spoken to.
	Persistent bool
	// Frames is the version of the frames then: 1, the default, or Numbered.
	Frames int
	// Children is how many there are then: as many as requests run at once. Default 1.
	Children int
	Logger   hclog.Logger // optional
}

// Service runs the program. Make it with New; its Run must be running while its
// Handle is used.
type Service struct {
	cfg    Config
	path   string
	env    []string // the worker's own
	starts chan start

	// The following is for programs that stay.
	jobs     chan *job
	alive    atomic.Int64
	broken   atomic.Pointer[error] // why the last child ended
	counters counters
}

// start asks the forking goroutine for one process.
type start struct {
	cmd  *osexec.Cmd
	done chan error
}

// New looks the program up. It starts nothing.
func New(cfg Config) (*Service, error) {
	if len(cfg.Command) == 0 {
		return nil, errors.New("exec: no command given: add it behind --, such as -- tr a-z A-Z")
	}
	path, err := osexec.LookPath(cfg.Command[0])
	if err != nil {
		return nil, missing(cfg.Command[0], err)
	}
	if cfg.MaxReply == 0 {
		cfg.MaxReply = DefaultMaxReply
	}
	switch cfg.Frames {
	case 0:
		cfg.Frames = 1
	case 1, Numbered:
	default:
		return nil, fmt.Errorf("exec: frames of version %d: there are 1 and %d", cfg.Frames, Numbered)
	}
	if cfg.Children == 0 {
		cfg.Children = 1
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &Service{cfg: cfg, path: path, env: inherited(os.Environ()), starts: make(chan start), jobs: make(chan *job)}, nil
}

// missing says why a program cannot be run, once.
func missing(name string, err error) error {
	reason := err
	if e, ok := errors.AsType[*osexec.Error](err); ok {
		reason = e.Err
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		reason = e.Err
	}
	return fmt.Errorf("exec: cannot run %q: %w", name, reason)
}

// Handle implements worker.Handler. A program that fails gives APP_ERROR with the
// end of its standard error.
func (s *Service) Handle(ctx context.Context, r *worker.Request) ([][]byte, error) {
	if s.cfg.Persistent {
		return s.ask(ctx, r)
	}
	return s.runOnce(ctx, r)
}

// runOnce runs the program for r alone.
func (s *Service) runOnce(ctx context.Context, r *worker.Request) ([][]byte, error) {
	stdout := limited{max: s.cfg.MaxReply}
	stderr := tail{max: stderrKept}
	cmd := &osexec.Cmd{
		Path: s.path, Args: s.cfg.Command, Env: s.environment(ctx, r),
		Stdin: bytes.NewReader(r.Bytes()), Stdout: &stdout, Stderr: &stderr,
		WaitDelay:   pipeGrace,
		SysProcAttr: attributes(),
	}
	stdout.full = func() { kill(cmd) }
	if err := s.start(ctx, cmd); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { kill(cmd) })
	err := cmd.Wait()
	stop()
	kill(cmd) // what it left behind in its group
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case stdout.over:
		return nil, ran(mdp.TooBig, "%s wrote more than %d octets", s.cfg.Command[0], s.cfg.MaxReply)
	case err != nil && !errors.Is(err, osexec.ErrWaitDelay):
		return nil, failure(s.cfg.Command[0], err, stderr.String())
	}
	return [][]byte{stdout.buf.Bytes()}, nil
}

// failure says how the program ended, and what it said last.
func failure(name string, err error, said string) error {
	if said = strings.TrimSpace(said); said != "" {
		return ran(mdp.AppError, "%s: %v: %s", name, err, said)
	}
	return ran(mdp.AppError, "%s: %v", name, err)
}

// ran is an error of a program that was started.
func ran(status mdp.Status, format string, args ...any) error {
	e := mdp.Errorf(status, format, args...)
	e.MayHaveRun = true
	return e
}

// The environment variables that tell a program about its request.
const (
	envService  = "MD_SERVICE"
	envID       = "MD_REQUEST_ID"
	envAttempt  = "MD_ATTEMPT"
	envDeadline = "MD_DEADLINE_MS"
	envCaller   = "MD_CALLER"
	envFrames   = "MD_FRAMES" // of programs that stay
)

// notInherited are variables that are about the worker itself: its service manager
// must not hear from the program, and it may itself be run by an exec service.
var notInherited = []string{envService, envID, envAttempt, envDeadline, envCaller, envFrames,
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}

func inherited(environ []string) []string {
	return slices.DeleteFunc(environ, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(notInherited, name)
	})
}

// environment is the worker's own, and what the program may want to know. Without a
// deadline MD_DEADLINE_MS is not set.
func (s *Service) environment(ctx context.Context, r *worker.Request) []string {
	id := r.ID.String()
	env := append(slices.Clip(s.env),
		envService+"="+r.Service,
		envID+"="+id,
		envAttempt+"="+strconv.Itoa(r.Attempt),
		envCaller+"="+id[:len(id)/2]) // its first half names the process that called
	if deadline, ok := ctx.Deadline(); ok {
		env = append(env, envDeadline+"="+strconv.FormatInt(max(time.Until(deadline).Milliseconds(), 0), 10))
	}
	return env
}

// start has the process forked by the one goroutine that does so.
func (s *Service) start(ctx context.Context, cmd *osexec.Cmd) error {
	st := start{cmd, make(chan error, 1)}
	select {
	case s.starts <- st:
	case <-ctx.Done():
		return mdp.Errorf(mdp.NotTaken, "not started: %v", context.Cause(ctx))
	}
	switch err := <-st.done; {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		// This machine has no room for a process now; another may.
		return mdp.Errorf(mdp.NotTaken, "start %s: %v", s.cfg.Command[0], err)
	case err != nil:
		return mdp.Errorf(mdp.AppError, "start %s: %v", s.cfg.Command[0], err)
	}
	return nil
}

func kill(cmd *osexec.Cmd) {
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH: gone already
	}
}

// limited keeps up to max octets and calls full at the first one beyond.
type limited struct {
	buf  bytes.Buffer
	max  int
	over bool
	full func()
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > l.max {
		if !l.over && l.full != nil {
			l.full()
		}
		l.over = true
		return 0, errors.New("reply too large")
	}
	return l.buf.Write(p)
}

// tail keeps the last max octets.
type tail struct {
	buf []byte
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - t.max; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(string(t.buf), "?") }
