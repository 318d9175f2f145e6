package broker

import (
	"math"
	"time"
)

// view is what the choice knows of one broker for one service: its own state,
// exactly, or a peer's, as far as it has told (docs/PROTOCOL.md section 8).
type view struct {
	idle    int // believed idle workers; below zero the excess counts as queue
	queue   int
	via     int  // idle workers behind it
	behind  bool // workers behind it, idle or busy
	workers int
	mean    time.Duration // service time
	oneWay  time.Duration // to get there; 0 for here
	class   int           // of latency
	suspect bool          // silent since it was sent a request: gets nothing
}

// never is the wait where nobody works.
const never = time.Duration(math.MaxInt64 / 4)

// unknownMean stands in until a service time has been seen.
const unknownMean = time.Millisecond

// wait estimates how long a request entering there now waits for a worker.
func (v view) wait() time.Duration {
	switch {
	case v.idle > v.queue:
		return 0
	case v.workers == 0:
		return never
	}
	mean := v.mean
	if mean == 0 {
		mean = unknownMean
	}
	// In floating point: what peers claim may be any number.
	return time.Duration(min(float64(v.queue-v.idle+1)*float64(mean)/float64(v.workers), float64(never)))
}

// frees is how often a worker comes free where all are busy, in the mean.
func (v view) frees() time.Duration {
	switch {
	case v.workers == 0:
		return never
	case v.mean == 0:
		return unknownMean / time.Duration(v.workers)
	}
	return v.mean / time.Duration(v.workers)
}

// stalled tells, of how long ago a worker took a request, whether that is much longer than
// they do in the mean, with all of them busy: those here have long requests then, and who
// is next will wait for longer than elsewhere.
func (v view) stalled(since time.Duration) bool {
	return v.mean > 0 && since > max(3*v.frees(), updateInterval)
}

// levels is when a request must have come, at the latest, that waits here and is better
// next at the peer, where the oldest one came at oldestAt: earlier than that by more than
// the way, half of what a worker's coming free takes there, and what clocks and reports
// are out by. Where the peer's next worker is free later than the second one here,
// nothing is: one with a single worker keeps who is next waiting for as long as its
// longest request takes.
func levels(here, there view, oldestAt int64) int64 {
	if there.suspect || there.workers == 0 || there.frees()+there.oneWay > 2*here.frees() {
		return math.MinInt64
	}
	return oldestAt - int64(max(there.frees()/2, time.Millisecond)+2*there.oneWay)
}

// choose picks the peer a request goes to when no worker here is free, or -1 to
// queue it here. Lot returns a number in [0, n). The rules, in order: an idle
// peer that is nearer than the wait here, of the nearest latency class, by lot
// weighted by idleness; one that has idle peers behind it; the better of two
// random ones that offer the service, if the gain is worth a fifth of a service;
// where nobody works here or next to here, one that has workers behind it.
func choose(here view, peers []view, hops int, lot func(n int) int) int {
	if hops <= 0 {
		return -1
	}
	local := here.wait()
	if i := chooseIdle(peers, local, lot); i >= 0 {
		return i
	}
	if hops > 1 {
		if i := chooseWeighted(peers, lot, func(v view) int {
			if 2*v.oneWay >= local {
				return 0
			}
			return v.via
		}); i >= 0 {
			return i
		}
	}
	i := chooseOfTwo(here, peers, local, lot)
	if i < 0 && hops > 1 && here.workers == 0 {
		i = chooseWeighted(peers, lot, func(v view) int {
			if v.behind {
				return 1
			}
			return 0
		})
	}
	return i
}

// chooseIdle draws an idle peer that is nearer than wait, the wait here, or -1.
func chooseIdle(peers []view, wait time.Duration, lot func(n int) int) int {
	return chooseWeighted(peers, lot, func(v view) int {
		if v.oneWay >= wait {
			return 0
		}
		return v.idle
	})
}

// Latency classes: ways of like length, under 1 ms, 2, 4, 8 ... and the same again
// for ways into another zone, all of which are farther than the farthest in our own.
const (
	lengths = 16
	classes = 2 * lengths
)

// latencyClass is the class of a way.
func latencyClass(d time.Duration, otherZone bool) int {
	class := 0
	for limit := time.Millisecond; d >= limit && class < lengths-1; limit *= 2 {
		class++
	}
	if otherZone {
		class += lengths
	}
	return class
}

// chooseWeighted draws among the peers of positive weight in the nearest latency
// class that has any.
func chooseWeighted(peers []view, lot func(int) int, weight func(view) int) int {
	best, total := math.MaxInt, 0
	for _, v := range peers {
		w := weight(v)
		if v.suspect || w <= 0 {
			continue
		}
		switch class := v.class; {
		case class < best:
			best, total = class, w
		case class == best:
			total += w
		}
	}
	if total == 0 {
		return -1
	}
	n := lot(total)
	for i, v := range peers {
		w := weight(v)
		if v.suspect || w <= 0 || v.class != best {
			continue
		}
		if n -= w; n < 0 {
			return i
		}
	}
	return -1
}

// chooseOfTwo samples two peers that offer the service and takes the one with the
// shorter wait, if that beats waiting here by the margin.
func chooseOfTwo(here view, peers []view, local time.Duration, lot func(int) int) int {
	offering := 0
	for _, v := range peers {
		if !v.suspect && v.workers > 0 {
			offering++
		}
	}
	if offering == 0 {
		return -1
	}
	best, bestWait := -1, local-here.mean/5
	first := lot(offering)
	second := first
	if offering > 1 {
		second = (first + 1 + lot(offering-1)) % offering
	}
	k := 0
	for i, v := range peers {
		if v.suspect || v.workers == 0 {
			continue
		}
		if k == first || k == second {
			if w := v.wait() + v.oneWay; w < bestWait {
				best, bestWait = i, w
			}
		}
		k++
	}
	return best
}

// ewma is a mean with a long memory (weight 0.02): heavy-tailed service times
// make short memories jump.
type ewma struct{ ns float64 }

func (e *ewma) add(ns int64) {
	if e.ns == 0 {
		e.ns = float64(ns)
		return
	}
	e.ns += 0.02 * (float64(ns) - e.ns)
}

func (e *ewma) duration() time.Duration { return time.Duration(e.ns) }
