// Package load keeps blocking calls running and measures them, in the same way for
// whatever is called.
//
// The one invariant: every lane has exactly one call in flight until the time is
// over, and each call that ends is counted once. Start at Run.
package load

import (
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// slowest is the longest latency that is told apart.
const slowest = 10 * time.Minute

// Result is what a load came to. Latencies are of calls that succeeded.
type Result struct {
	Calls   int64   `json:"calls"`
	Errors  int64   `json:"errors"`
	Error   string  `json:"error,omitempty"` // the first
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"` // calls per second
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
}

// Run keeps one call in flight in each of lanes for duration d. call is called from
// one goroutine per lane.
func Run(lanes int, d time.Duration, call func(lane int) error) Result {
	// Few lanes share a tally, or they would wait for its mutex; a lane has none of
	// its own, because a histogram takes 200 KB.
	tallies := make([]tally, min(lanes, 4*runtime.GOMAXPROCS(0)))
	for i := range tallies {
		tallies[i].latency = hdrhistogram.New(100, slowest.Nanoseconds(), 3)
	}
	var wg sync.WaitGroup
	began := time.Now()
	for lane := range lanes {
		t := &tallies[lane%len(tallies)]
		wg.Go(func() {
			for at := time.Now(); at.Sub(began) < d; {
				err := call(lane)
				now := time.Now()
				t.count(now.Sub(at), err)
				at = now
			}
		})
	}
	wg.Wait()
	return sum(tallies, time.Since(began))
}

type tally struct {
	mu      sync.Mutex
	latency *hdrhistogram.Histogram // nanoseconds
	errors  int64
	first   error
}

func (t *tally) count(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errors++
		if t.first == nil {
			t.first = err
		}
		return
	}
	_ = t.latency.RecordValue(int64(min(took, slowest))) // never out of range
}

func sum(tallies []tally, took time.Duration) (r Result) {
	all := hdrhistogram.New(100, slowest.Nanoseconds(), 3)
	for i := range tallies {
		t := &tallies[i]
		all.Merge(t.latency)
		r.Errors += t.errors
		if t.first != nil && r.Error == "" {
			r.Error = t.first.Error()
		}
	}
	r.Calls, r.Seconds = all.TotalCount(), took.Seconds()
	r.Rate = float64(r.Calls) / r.Seconds
	r.P50 = float64(all.ValueAtQuantile(50)) / 1e3
	r.P99 = float64(all.ValueAtQuantile(99)) / 1e3
	return r
}
