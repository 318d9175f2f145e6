package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
	"github.com/mdmesh/mdmesh/zsock"
)

// Row 12. A subscriber that does not read loses events: of those that come while its
// queue is full, the new ones. Each is counted, it gets new ones when it reads again,
// and another subscriber misses none.
func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	const events, size, bound = 2500, 16 << 10, 8 << 20
	b := rig.StartBroker(t)
	r := rig.Relay(t, b.Subscribe)
	slow, good := subscribe(t, r.Endpoint()), subscribe(t, b.Subscribe)
	publisher := rig.Client(t, b.Requests)
	published := uint64(0)
	publish := func() {
		if err := publisher.Publish(t.Context(), "t", binary.BigEndian.AppendUint64(make([]byte, size), published)); err != nil {
			t.Error(err)
		}
		published++
	}
	rig.Await(t, "both are subscribed", func() error {
		publish()
		return errors.Join(slow.reaches(0), good.reaches(0))
	})

	before := rig.RSS(t, b.PID())
	stalled, first, patient := time.Now(), published, true
	r.Fault(relay.Down, relay.Fault{Stall: true})
	for n := range uint64(events) {
		publish()
		if n%100 == 0 && n >= 200 { // at the pace of the one that reads
			rig.Await(t, "the good one keeps up", func() error { return good.reaches(first + n - 200) })
		}
	}
	rig.Await(t, "the good one has all", func() error { return good.reaches(published - 1) })
	t.Logf("memory grew by %d KiB for %d KiB of events", (rig.RSS(t, b.PID())-before)>>10, events*size>>10)
	if grown := rig.RSS(t, b.PID()) - before; grown > 32<<20 {
		t.Errorf("the broker grew by %d MiB for one slow subscriber", grown>>20)
	}
	if n := b.State(t).Counters["events_dropped"]; n == 0 {
		t.Error("no event was dropped")
	}
	r.Heal()
	took := time.Since(stalled)
	rig.Await(t, "the slow one hears again", func() error {
		if slow.cutOff() { // TCP gives up on a peer that takes nothing for 4 s
			t.Logf("the slow subscriber was cut off, not having read for %v; it comes again", took)
			slow, patient = subscribe(t, b.Subscribe), false
		}
		publish()
		return slow.reaches(first + events)
	})
	publish() // there is room again, so this one comes, and is the last
	rig.Await(t, "the slow one has the last", func() error { return slow.reaches(published - 1) })
	switch {
	case patient:
		survived(t, b, slow.numbers(), first+bound/(size+1024), published)
	case took < 3*time.Second:
		t.Errorf("the slow subscriber was cut off after %v", took)
	}
	if got := good.numbers(); uint64(len(got)) != published-got[0] {
		t.Errorf("the good subscriber has %d of %d", len(got), published-got[0])
	}
}

// survived looks at the events that a slow subscriber has seen: all up to one that the
// bound of its queue allows at least, and later ones in their order; what is missing is
// counted.
func survived(t *testing.T, b *rig.Broker, seen []uint64, least, published uint64) {
	t.Helper()
	whole := 1
	for whole < len(seen) && seen[whole] == seen[whole-1]+1 {
		whole++
	}
	dropped := b.State(t).Counters["events_dropped"]
	t.Logf("from event %d on: %d published, %d dropped, %d seen, the first %d without a gap", seen[0], published-seen[0], dropped, len(seen), whole)
	if last := seen[whole-1]; last < least {
		t.Errorf("the first event is missing after %d; its queue has room until %d at least", last, least)
	}
	if !slices.IsSorted(seen) || len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Errorf("events came out of order, or twice: %v", seen)
	}
	if want := published - seen[0]; uint64(len(seen))+dropped != want {
		t.Errorf("%d seen and %d dropped, of %d published", len(seen), dropped, want)
	}
}

// subscriber is a SUB socket of topic t that remembers the numbers at the ends of what
// it has seen.
type subscriber struct {
	conn *zsock.Conn

	mu     sync.Mutex // guards the following
	seen   []uint64
	closed bool
}

func subscribe(t *testing.T, endpoint string) *subscriber {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), meshproc.Guard)
	defer cancel()
	s := &subscriber{}
	conn, err := zsock.Dial(ctx, endpoint, zsock.Config{Type: zsock.Sub}, s)
	if err != nil {
		t.Fatal(err)
	}
	s.conn = conn
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = conn.Run(context.Background())
	}()
	t.Cleanup(func() {
		conn.Close(nil)
		<-ended
	})
	var batch zsock.Batch
	if err := conn.Send(&batch, [][]byte{[]byte("\x01t")}, zsock.Body{}); err != nil {
		t.Fatal(err)
	}
	batch.Flush()
	return s
}

func (s *subscriber) numbers() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *subscriber) cutOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// reaches is nil once the event of this number, or a later one, has come.
func (s *subscriber) reaches(number uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.seen); n == 0 || s.seen[n-1] < number {
		return fmt.Errorf("%d events have come, not yet %d", n, number)
	}
	return nil
}

// Opened implements zsock.Handler.
func (s *subscriber) Opened(*zsock.Conn) {}

// Message implements zsock.Handler.
func (s *subscriber) Message(_ *zsock.Batch, _ *zsock.Conn, m *zsock.Msg) {
	if frames := m.Frames(); len(frames) == 2 && len(frames[1]) >= 8 {
		s.mu.Lock()
		s.seen = append(s.seen, binary.BigEndian.Uint64(frames[1][len(frames[1])-8:]))
		s.mu.Unlock()
	}
}

// Closed implements zsock.Handler.
func (s *subscriber) Closed(*zsock.Batch, *zsock.Conn, error) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}
