package federation

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
)

// ledger is where all workers of a test write down what they execute.
type ledger struct {
	mu   sync.Mutex
	runs map[mdp.RequestID][]execution
	at   map[string]int // executions by site
}

// execution is one start of a handler.
type execution struct {
	attempt int
	site    string
	once    bool // as the request's body says
}

// onceWord begins the body of calls that must run at most once.
const onceWord = "once"

func newLedger() *ledger {
	return &ledger{runs: make(map[mdp.RequestID][]execution), at: make(map[string]int)}
}

func (l *ledger) note(r *worker.Request, site string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[r.ID] = append(l.runs[r.ID], execution{r.Attempt, site, strings.HasPrefix(string(r.Bytes()), onceWord)})
	l.at[site]++
}

// executed is how often a request was executed.
func (l *ledger) executed(id mdp.RequestID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.runs[id])
}

// of is the number of executions at a site.
func (l *ledger) of(site string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[site]
}

// check fails the test if an attempt of a request was executed twice, or a request that
// is to run at most once, and returns how many requests were executed and how often
// they were executed again.
func (l *ledger) check(t *testing.T) (requests, again int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, runs := range l.runs {
		again += len(runs) - 1
		if runs[0].once && len(runs) > 1 {
			t.Errorf("request %v, to run at most once: %+v", id, runs)
		}
		seen := make(map[int]bool)
		for _, run := range runs {
			if seen[run.attempt] {
				t.Errorf("request %v: an attempt was executed twice: %+v", id, runs)
				break
			}
			seen[run.attempt] = true
		}
	}
	return len(l.runs), again
}

// sleeping is a handler that works for a while and answers with the name of its site
// and the request's body. What it sleeps it is no load for the machine.
func (l *ledger) sleeping(site string, work time.Duration) worker.Handler {
	return func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		l.note(r, site)
		timer := time.NewTimer(work)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return append([][]byte{[]byte(site)}, r.Body...), nil
	}
}

// holding is a handler that tells when it has begun, and that its answer is not wanted
// any more; else it never ends.
type holding struct {
	*ledger
	begun, cancelled chan string // the body
}

func newHolding(l *ledger) *holding {
	return &holding{l, make(chan string, 100), make(chan string, 100)}
}

func (h *holding) at(site string) worker.Handler {
	return func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		h.note(r, site)
		h.begun <- string(r.Bytes())
		<-ctx.Done()
		h.cancelled <- string(r.Bytes())
		return nil, context.Cause(ctx)
	}
}
