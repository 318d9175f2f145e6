package zsock

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
)

// ListenerCounters is a snapshot. Maps are keyed by the short names of reasons,
// such as "peer-closed", "too-big" or "version": those in this package and those of
// [NewReason]. What has none, or comes beyond maxReasons of them, is "other".
type ListenerCounters struct {
	Open        int // connections that are open now
	Handshaking int // connections whose handshake is not finished

	Accepted     uint64 // connections the kernel gave us
	AcceptErrors uint64 // times accepting failed and was tried again
	Opened       uint64 // handshakes that succeeded

	Refused map[string]uint64 // accepted, and closed for a limit: "max-conns", "max-of-host", "max-handshakes"
	Failed  map[string]uint64 // handshakes that failed, by reason
	Closed  map[string]uint64 // open connections that ended, by reason

	IgnoredMessages uint64 // unknown commands, and messages to a publisher that are no subscriptions
	DroppedPongs    uint64 // PONGs not sent to peers that ping and do not read
}

// maxReasons bounds the names by which ends of connections are counted.
const maxReasons = 64

// tally counts what has no better place, for one listener or one dialled connection.
type tally struct {
	ignored atomic.Uint64
	pongs   atomic.Uint64

	mu     sync.Mutex
	closed map[string]uint64
}

// count notes why a connection ended.
func (t *tally) count(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = make(map[string]uint64)
	}
	name := reasonName(why)
	if _, known := t.closed[name]; !known && len(t.closed) >= maxReasons {
		name = otherReason
	}
	t.closed[name]++
}

func (t *tally) fill(s *ListenerCounters) {
	s.IgnoredMessages, s.DroppedPongs = t.ignored.Load(), t.pongs.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Closed = maps.Clone(t.closed)
}

const otherReason = "other"

// reasonName is the counter name of err: that of the most specific reason it wraps.
func reasonName(err error) string {
	for _, inner := range []error{ErrPeerClosed, ErrPeerError} {
		if errors.Is(err, inner) {
			return inner.(*reason).name
		}
	}
	if r, ok := errors.AsType[*reason](err); ok {
		return r.name
	}
	return otherReason
}
