package federation

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// load is callers of one client that call one after another until they are stopped.
// Each checks that every answer is its own.
type load struct {
	name     string
	once     bool
	client   *client.Client
	ledger   *ledger
	answered atomic.Int64
	lost     atomic.Int64 // `once` calls that ended with PEER_LOST
	retried  atomic.Int64 // answered by a later attempt
	slowest  atomic.Int64 // ns
	over     chan struct{}
	callers  sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// drive starts callers. Those with once expect PEER_LOST beside answers.
func drive(t *testing.T, name string, c *client.Client, l *ledger, callers int, once bool) *load {
	t.Helper()
	d := &load{name: name, once: once, client: c, ledger: l, over: make(chan struct{})}
	for i := range callers {
		d.callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-d.over:
					return
				default:
				}
				mine := fmt.Sprintf("%s %d.%d", name, i, n)
				if once {
					mine = onceWord + " " + mine
				}
				if err := d.call(t, mine); err != nil {
					d.mu.Lock()
					d.errs = append(d.errs, err)
					d.mu.Unlock()
					return
				}
			}
		})
	}
	t.Cleanup(d.end)
	return d
}

// call makes one call and accounts for its end.
func (d *load) call(t *testing.T, mine string) error {
	begun := time.Now()
	reply, err := d.client.Do(t.Context(), client.Call{Service: service, Body: [][]byte{[]byte(mine)}, Timeout: meshproc.Guard, Once: d.once})
	if took := int64(time.Since(begun)); took > d.slowest.Load() {
		d.slowest.Store(took)
	}
	if err != nil {
		if d.once && errors.Is(err, mdp.PeerLost) {
			d.lost.Add(1)
			return nil
		}
		return fmt.Errorf("call %q after %v: %w", mine, time.Since(begun), err)
	}
	if len(reply.Body) != 2 || string(reply.Body[1]) != mine {
		return fmt.Errorf("call %q got another's answer %q", mine, reply.Body)
	}
	if reply.Attempt > 1 {
		d.retried.Add(1)
	}
	d.answered.Add(1)
	if d.ledger.executed(reply.ID) == 0 {
		return fmt.Errorf("call %q is answered and was not executed", mine)
	}
	return nil
}

// some waits until so many more calls are answered, and returns how long that took.
func (d *load) some(t *testing.T, n int64) time.Duration {
	t.Helper()
	from := d.answered.Load()
	return meshproc.Eventually(t, fmt.Sprintf("%d calls of %s are answered", n, d.name), func() error {
		if now := d.answered.Load(); now < from+n {
			return errors.Join(fmt.Errorf("%d are", now-from), d.failure())
		}
		return nil
	})
}

func (d *load) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.errs...)
}

// end stops the callers and waits for the answers they wait for.
func (d *load) end() {
	select {
	case <-d.over:
	default:
		close(d.over)
	}
	d.callers.Wait()
}

// stop ends the load; no call must have failed, and none have been answered twice.
func (d *load) stop(t *testing.T) {
	t.Helper()
	d.end()
	if err := d.failure(); err != nil {
		t.Error(err)
	}
	n := d.client.Counters()
	if n.Late != 0 {
		t.Errorf("%s: %d answers came that nobody waited for", d.name, n.Late)
	}
	t.Logf("%s: %d answered, %d of them by a later attempt, %d PEER_LOST, the slowest after %v; retries %d, failovers %d",
		d.name, d.answered.Load(), d.retried.Load(), d.lost.Load(), time.Duration(d.slowest.Load()).Round(time.Millisecond), n.Retries, n.Failovers)
}
