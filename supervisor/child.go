package supervisor

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// definition is what the file says of a child; another file may say otherwise
// (reload.go).
type definition struct {
	entry        string // name of its [[child]]: those stop together
	group        string
	command      []string
	environment  []string // KEY=VALUE, added to the supervisor's
	directory    string   // "" = the supervisor's
	restart      Restart
	stopSignal   syscall.Signal
	stopTimeout  time.Duration
	notifies     bool
	startTimeout time.Duration
	minUptime    time.Duration
	maxFailures  int
	fatalExits   []int
	digest       string // stands for all of it
}

// child is one process to keep running: its definition and its life, which only the
// engine's goroutine touches.
type child struct {
	name string // "echo:2"
	definition

	state    State
	since    time.Time // when it entered state
	process  process   // while running, else nil
	mark     string    // in the environment of process, unique to this start
	started  time.Time // start of process
	restarts int       // starts after a failure
	failures int       // quick failures in a row
	reason   string    // why it is in backoff, fatal or down
	timer    time.Time // when timeout is due; zero = never
	then     sequel    // what follows stopping
	held     bool      // an operator stopped it; stays so over a restart of the supervisor
	finished bool      // ended by itself, and is not to start again: transient with 0, or temporary
	retired  bool      // no longer in the file: forgotten when down
}

func (c *child) pid() int {
	if c.process == nil {
		return 0
	}
	return c.process.id()
}

// ChildStatus is what is told of one child. The five fields with names in JSON
// are a contract.
type ChildStatus struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	PID      int       `json:"pid"` // 0 = not running
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
	Reason   string    `json:"reason,omitempty"` // why it is in backoff, fatal or down
}

func (c *child) status() ChildStatus {
	s := ChildStatus{Name: c.name, State: c.state.String(), PID: c.pid(), Since: c.since.UTC().Truncate(time.Millisecond), Restarts: c.restarts}
	if c.state == Backoff || c.state == Fatal || c.state == Down {
		s.Reason = c.reason
	}
	return s
}

// Exit is how a process ended. Known is false for one taken over from an earlier
// supervisor: only a parent learns the code.
type Exit struct {
	Known  bool
	Code   int            // 0..255, or -1 where a signal ended it
	Signal syscall.Signal // 0 = none
}

func (x Exit) clean() bool { return x.Known && x.Code == 0 && x.Signal == 0 }

func (x Exit) String() string {
	switch {
	case !x.Known:
		return "ended (code unknown: started by an earlier supervisor)"
	case x.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%v)", int(x.Signal), x.Signal)
	default:
		return fmt.Sprintf("exited with %d", x.Code)
	}
}

// Back-off between failures: full jitter, so that children that fell together do
// not rise together.
const (
	backoffBase = 100 * time.Millisecond
	backoffCap  = 30 * time.Second
)

// backoff returns the wait before start number failures+1: at most 100 ms, 200
// ms, 400 ms ... 30 s, and random below that.
func backoff(failures int, random func(time.Duration) time.Duration) time.Duration {
	limit := backoffCap
	if shift := max(failures-1, 0); shift < 9 {
		limit = min(backoffCap, backoffBase<<shift)
	}
	return random(limit)
}

func fullJitter(limit time.Duration) time.Duration { return rand.N(limit + 1) }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
