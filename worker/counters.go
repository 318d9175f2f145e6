package worker

import "sync/atomic"

// Counters are totals since New, over all sessions.
type Counters struct {
	Requests  uint64 // taken from brokers
	Answered  uint64 // finals without an error
	Failed    uint64 // finals with an error of the handler, panics included
	Panics    uint64
	Partials  uint64
	Cancelled uint64 // requests whose CANCEL came while their handler ran
	NotTaken  uint64 // requests sent back unstarted: cancelled at once, over credit, draining
	Lost      uint64 // results dropped because the broker's connection had ended
	Abandoned uint64 // results dropped because the drain timed out
	Late      uint64 // CANCELs for requests that were over
	Connects  uint64 // sessions a broker has welcomed
	Refusals  uint64 // sessions a broker has refused
	Silences  uint64 // sessions closed because the broker was silent
	Malformed uint64 // messages that are none of the protocol, dropped
	Unknown   uint64 // commands this revision does not know, ignored
	Running   int64  // handlers running now
}

type counters struct {
	requests, answered, failed, panics, partials, cancelled, notTaken atomic.Uint64
	lost, abandoned, late, connects, refusals, silences               atomic.Uint64
	malformed, unknown                                                atomic.Uint64
	running                                                           atomic.Int64
}

// Counters returns a snapshot.
func (w *Worker) Counters() Counters {
	n := &w.counters
	return Counters{
		Requests: n.requests.Load(), Answered: n.answered.Load(), Failed: n.failed.Load(),
		Panics: n.panics.Load(), Partials: n.partials.Load(), Cancelled: n.cancelled.Load(),
		NotTaken: n.notTaken.Load(), Lost: n.lost.Load(), Abandoned: n.abandoned.Load(),
		Late: n.late.Load(), Connects: n.connects.Load(), Refusals: n.refusals.Load(),
		Silences: n.silences.Load(), Malformed: n.malformed.Load(), Unknown: n.unknown.Load(),
		Running: n.running.Load(),
	}
}
