// Package work is the load that queues are judged by: calls that arrive at random,
// heavy-tailed times of service, and the single queue that nothing beats.
//
// 95 of 100 calls take 5 ms in the mean and 5 take 105 ms, exponential each, so the
// mean is 10 ms. With it p99 of service alone is near 170 ms: whoever reads only
// latency does not see queueing. Read the wait, from submission to start.
//
// The one invariant: a plan is drawn from its seed alone, so that every system gets
// the same calls at the same times. Start at Plan; record.go is what is measured.
package work

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// The times of service.
const (
	common   = 5 * time.Millisecond
	rare     = 105 * time.Millisecond
	rareness = 0.05
	// Mean is the mean time of service.
	Mean = 10 * time.Millisecond
)

// Plan says what is asked for.
type Plan struct {
	Seed    uint64  `json:"seed"`
	Calls   int     `json:"calls"`
	Load    float64 `json:"load"`    // of all workers, 0 to 1
	Workers int     `json:"workers"` // each serves one call at once
	Entries int     `json:"entries"` // brokers that calls come in by
	Hot     float64 `json:"hot"`     // the part that comes in by the first, if there are more
}

// Call is one of a plan.
type Call struct {
	At      time.Duration // since the beginning
	Service time.Duration
	Entry   int
}

// Draw returns the calls in the order of their arrival.
func (p Plan) Draw() []Call {
	// Streams of their own: the same seed has the same work at every load and skew.
	at := rand.New(rand.NewPCG(p.Seed, 1))
	service := rand.New(rand.NewPCG(p.Seed, 2))
	entry := rand.New(rand.NewPCG(p.Seed, 3))
	gap := float64(Mean) / (p.Load * float64(p.Workers))
	calls := make([]Call, p.Calls)
	var now float64
	for i := range calls {
		now += at.ExpFloat64() * gap
		calls[i] = Call{At: time.Duration(now), Service: draw(service), Entry: p.entry(entry)}
	}
	return calls
}

func draw(r *rand.Rand) time.Duration {
	mean := common
	if r.Float64() < rareness {
		mean = rare
	}
	return time.Duration(r.ExpFloat64() * float64(mean))
}

func (p Plan) entry(r *rand.Rand) int {
	u := r.Float64()
	if p.Entries < 2 || u < p.Hot {
		return 0
	}
	return 1 + int((u-p.Hot)/(1-p.Hot)*float64(p.Entries-1))
}

// Length is about how long the plan takes.
func (p Plan) Length() time.Duration {
	return time.Duration(float64(p.Calls) * float64(Mean) / (p.Load * float64(p.Workers)))
}

// Ideal returns how long each call waits in one queue, first come first served, for
// workers that are told of it in no time. at must not decrease.
func Ideal(at, service []time.Duration, workers int) (waits []time.Duration) {
	free := make(times, workers) // when each worker is free, soonest first
	waits = make([]time.Duration, len(at))
	for i := range at {
		start := max(at[i], free[0])
		waits[i] = start - at[i]
		free[0] = start + service[i]
		heap.Fix(&free, 0)
	}
	return waits
}

type times []time.Duration

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(any)          {} // never grows
func (t *times) Pop() any          { return nil }

// Quantiles are those of some durations.
type Quantiles struct {
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
}

// Summarize sorts d.
func Summarize(d []time.Duration) (q Quantiles) {
	if len(d) == 0 {
		return q
	}
	slices.Sort(d)
	ms := func(v time.Duration) float64 { return float64(v) / float64(time.Millisecond) }
	at := func(p float64) float64 { return ms(d[min(int(p*float64(len(d))), len(d)-1)]) }
	var sum time.Duration
	for _, v := range d {
		sum += v
	}
	return Quantiles{Mean: ms(sum) / float64(len(d)), P50: at(.5), P99: at(.99), P999: at(.999)}
}
