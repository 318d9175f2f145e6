package supervisor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/internal/logging"
)

// fakeHost is a launcher of processes that are only channels.
type fakeHost struct {
	mu sync.Mutex
	// mu guards the following.
	running map[string]*fakeProcess
	log     []string // "start echo:0", "TERM echo:0", in order
	times   []time.Time
	pids    int
	refuse  error // what launch answers, if set

	// obeys says whether a process ends on a signal; nil: on every one.
	obeys func(name string, s syscall.Signal) bool
	// onLaunch, if set, is called with each process that was started.
	onLaunch func(p *fakeProcess)
}

type fakeProcess struct {
	host     *fakeHost
	name     string
	pid      int
	exit     chan Exit
	released chan struct{}
}

func (h *fakeHost) launch(c *child) (process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return nil, h.refuse
	}
	h.pids++
	p := &fakeProcess{host: h, name: c.name, pid: h.pids, exit: make(chan Exit, 1), released: make(chan struct{})}
	if h.running == nil {
		h.running = map[string]*fakeProcess{}
	}
	h.running[c.name] = p
	h.log = append(h.log, "start "+c.name)
	h.times = append(h.times, time.Now())
	if h.onLaunch != nil {
		h.onLaunch(p)
	}
	return p, nil
}

func (h *fakeHost) end(name string, x Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running[name].exit <- x
}

func (h *fakeHost) entries(prefix string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []string
	for _, line := range h.log {
		if strings.HasPrefix(line, prefix) {
			found = append(found, line)
		}
	}
	return found
}

func (p *fakeProcess) id() int         { return p.pid }
func (p *fakeProcess) started() uint64 { return uint64(p.pid) }
func (p *fakeProcess) release()        { close(p.released) }

func (p *fakeProcess) signal(s syscall.Signal) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	p.host.log = append(p.host.log, fmt.Sprintf("%d %s", int(s), p.name))
	if p.host.obeys == nil || p.host.obeys(p.name, s) {
		select {
		case p.exit <- Exit{Known: true, Code: -1, Signal: s}:
		default:
		}
	}
	return nil
}

func (p *fakeProcess) wait() Exit {
	select {
	case x := <-p.exit:
		return x
	case <-p.released:
		return Exit{}
	}
}

// pass lets fake time go by.
func pass(d time.Duration) { <-time.After(d) }

// specs expands entries as Load would.
func specs(t testing.TB, entries ...Spec) []*child {
	t.Helper()
	f := &File{Child: entries}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	return f.children()
}

func entry(name string, change ...func(*Spec)) Spec {
	s := Spec{Name: name, Command: []string{"x"}}
	for _, f := range change {
		f(&s)
	}
	return s
}

func procs(n int) func(*Spec)            { return func(s *Spec) { s.Numprocs = &n } }
func policy(r Restart) func(*Spec)       { return func(s *Spec) { s.Restart = r } }
func failures(n int) func(*Spec)         { return func(s *Spec) { s.MaxFailures = &n } }
func group(name string) func(*Spec)      { return func(s *Spec) { s.Group = name } }
func notifying(s *Spec)                  { s.Ready = "notify" }
func most(d time.Duration) time.Duration { return d }

// bench is an engine that runs in a bubble of fake time.
type bench struct {
	*engine
	t    *testing.T
	host *fakeHost
	stop context.CancelFunc
	err  error // of run, once stopped
}

// beginBench runs an engine with its longest back-offs; it is stopped with the
// test.
func beginBench(t *testing.T, host *fakeHost, children ...*child) *bench {
	t.Helper()
	b := &bench{engine: newEngine(children, host, logging.Test(t)), t: t, host: host}
	b.random = most
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.err = b.run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
	synctest.Wait()
	return b
}

// state returns a child's state, once everything has come to rest.
func (b *bench) state(name string) ChildStatus {
	b.t.Helper()
	synctest.Wait()
	all, err := b.do(b.t.Context(), OpStatus, []string{name})
	if err != nil {
		b.t.Fatal(err)
	}
	return all[0]
}

func (b *bench) want(name string, s State) {
	b.t.Helper()
	if got := b.state(name); got.State != s.String() {
		b.t.Fatalf("%s is %s, want %s", name, got.State, s)
	}
}
