package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// load is callers of one client that call in a row until they are stopped. Each
// checks that every answer is its own.
type load struct {
	client     *client.Client
	calls      atomic.Int64 // answered
	retried    atomic.Int64 // answered by a later attempt
	progressed chan struct{}
	over       chan struct{}
	errs       chan error
	callers    int

	mu      sync.Mutex    // guards the following
	longest time.Duration // of all calls
	lately  time.Duration // since slowest was asked, without what this process waited for its turn
}

func startLoad(t *testing.T, b *rig.Broker, service, word string, callers int) *load {
	t.Helper()
	l := &load{client: rig.Client(t, b.Requests), callers: callers,
		progressed: make(chan struct{}, 1<<20), over: make(chan struct{}), errs: make(chan error, callers)}
	for i := range callers {
		go func() { l.errs <- l.call(t, service, word, i) }()
	}
	return l
}

func (l *load) call(t *testing.T, service, word string, caller int) error {
	for n := 0; ; n++ {
		select {
		case <-l.over:
			return nil
		default:
		}
		mine := fmt.Sprintf("%d of %d", n, caller)
		begun := time.Now()
		o := rig.Do(t.Context(), l.client, client.Call{Service: service, Body: rig.Words(word, []byte(mine)), Timeout: meshproc.Guard})
		if o.Err != nil || len(o.Rest) != 1 || string(o.Rest[0]) != mine {
			return fmt.Errorf("call %s: %q, %w", mine, o.Rest, o.Err)
		}
		if o.Attempt > 1 {
			l.retried.Add(1)
		}
		l.note(o.At.Sub(begun))
		l.calls.Add(1)
		select {
		case l.progressed <- struct{}{}:
		default:
		}
	}
}

func (l *load) note(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, took)
	l.lately = max(l.lately, took-turns.waited(took))
}

// slowest is how long the slowest call took, of those answered since it was asked
// before, less what this process waited for its turn meanwhile.
func (l *load) slowest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	slowest := l.lately
	l.lately = 0
	return slowest
}

// some waits until so many more calls are answered.
func (l *load) some(t *testing.T, n int) {
	t.Helper()
	for len(l.progressed) > 0 {
		<-l.progressed
	}
	guard := time.After(meshproc.Guard)
	for range n {
		select {
		case <-l.progressed:
		case err := <-l.errs:
			t.Fatal(err)
		case <-guard:
			t.Fatalf("calls hang after %d", l.calls.Load())
		}
	}
}

// stop ends the callers; none must have failed.
func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.over)
	for range l.callers {
		if err := <-l.errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d calls answered, %d by a later attempt, the slowest after %v", l.calls.Load(), l.retried.Load(), l.longest)
}
