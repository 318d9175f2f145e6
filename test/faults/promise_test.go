package faults

import (
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// within fails the test where something took ten times what is promised, and what this
// process had to wait for its turn meanwhile. It is called when it has just happened.
func within(t *testing.T, what string, took, promise time.Duration) {
	t.Helper()
	guarded(t, what, took, promise, 10*promise)
}

// guarded is within for where ten times the promise would let another mechanism pass,
// which comes later to the same.
func guarded(t *testing.T, what string, took, promise, guard time.Duration) {
	t.Helper()
	held := turns.waited(took)
	t.Logf("%s after %v (promise %v); this process had to wait for %v meanwhile", what, took, promise, held)
	if took-held > guard {
		t.Errorf("%s after %v; want %v, and %v on a busy machine", what, took-held, promise, guard)
	}
}

// punctual fails the test unless a call with a deadline ended at about that: 50 ms are
// promised. Nobody is too early for want of time, so that is not guarded but wrong.
func punctual(t *testing.T, what string, took, deadline time.Duration) {
	t.Helper()
	const promise, rounding = 50 * time.Millisecond, 10 * time.Millisecond
	if early := deadline - took; early > promise+rounding {
		t.Errorf("%s: told %v before the deadline", what, early)
	}
	// The whole call is looked at, also where it was on time, for what it had to wait.
	guarded(t, what+": told", took, deadline, deadline+10*promise)
}

// disturbance is how long a process may wait for its turn and still be called silent
// by mistake alone: the shortest patience of a broker is 250 ms.
const disturbance = 100 * time.Millisecond

// undisturbed is for what holds only while processes get to run: on a machine that
// lets them wait for longer than a heartbeat they are rightly called silent. Then,
// and only then, it is tried again.
func undisturbed(t *testing.T, try func() error) {
	t.Helper()
	const tries = 3
	for n := 1; ; n++ {
		begun := time.Now()
		err := try()
		switch longest := turns.longest(begun); {
		case err == nil:
			return
		case longest < disturbance || n == tries:
			t.Errorf("try %d: %v; this process had to wait for %v", n, err, longest)
			return
		default:
			t.Logf("try %d of %d: %v; but this process had to wait for %v: again", n, tries, err, longest)
		}
	}
}

// counted fails the test unless one of the broker's counters is as wanted.
func counted(t *testing.T, b *rig.Broker, counter string, want uint64) {
	t.Helper()
	if got := b.State(t).Counters[counter]; got != want {
		t.Errorf("%s=%d, want %d", counter, got, want)
	}
}

// unsuspected fails the test if the broker has called a worker silent since then: what
// was to be noticed was noticed in another way. A worker that did not get to run is
// rightly suspected.
func unsuspected(t *testing.T, b *rig.Broker, since time.Time) {
	t.Helper()
	n, longest := b.State(t).Counters["suspicions"], turns.longest(since)
	switch {
	case n == 0:
	case longest < disturbance:
		t.Errorf("%d workers were suspected", n)
	default:
		t.Logf("%d workers were suspected; but this process had to wait for %v", n, longest)
	}
}

// turns is kept (by TestMain) from the beginning of all tests to their end.
var turns watch

// watch remembers how long this process had to wait for its turn, which is what any
// process of the machine has to expect.
type watch struct {
	mu    sync.Mutex // guards the following
	last  time.Time  // when it last had its turn
	waits []wait     // in the order of their ends
}

type wait struct {
	until time.Time
	d     time.Duration
}

const watchTick = 10 * time.Millisecond

func (w *watch) keep() {
	w.mu.Lock()
	w.last = time.Now()
	w.mu.Unlock()
	for range time.Tick(watchTick) {
		w.turn(time.Now())
	}
}

// turn notes that the process has its turn, and how late.
func (w *watch) turn(now time.Time) {
	const noise = time.Millisecond // of timers
	w.mu.Lock()
	defer w.mu.Unlock()
	if late := now.Sub(w.last) - watchTick; late > noise {
		w.waits = append(w.waits, wait{now, late})
	}
	w.last = now
}

// since calls f with each wait that ended after begun, and with the one that lasts.
func (w *watch) since(begun time.Time, f func(d time.Duration)) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	f(min(max(now.Sub(w.last)-watchTick, 0), now.Sub(begun)))
	for i := len(w.waits) - 1; i >= 0 && w.waits[i].until.After(begun); i-- {
		f(min(w.waits[i].d, w.waits[i].until.Sub(begun)))
	}
}

// waited is how long this process has waited in the last while, in all.
func (w *watch) waited(while time.Duration) (sum time.Duration) {
	w.since(time.Now().Add(-while), func(d time.Duration) { sum += d })
	return sum
}

// longest is how long this process had to wait at once since then.
func (w *watch) longest(begun time.Time) (longest time.Duration) {
	w.since(begun, func(d time.Duration) { longest = max(longest, d) })
	return longest
}
