package broker

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mdmesh/mdmesh/zsock"
)

// Whatever comes and goes, the lines agree with a model: nothing is lost, each line
// keeps its order, and a client that waits is served within as many turns as there
// are clients.
func TestQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newService(&Broker{start: time.Now(), cfg: Config{MaxRequests: 10, MaxBytes: 1000}}, "s")
		clients := []*conn{nil, {}, {}, {}}
		model := make(map[*conn][]*request)
		since := make(map[*conn]int) // turns of others
		entered := int64(0)
		waiting := func() (n int) {
			for _, l := range model {
				n += len(l)
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"enqueue": func(t *rapid.T) {
				c := rapid.SampledFrom(clients).Draw(t, "client")
				entered++
				r := &request{entered: entered, size: 1, from: origin{conn: c}}
				s.enqueue(r)
				if len(model[c]) == 0 {
					since[c] = 0
				}
				model[c] = append(model[c], r)
			},
			"serve": func(t *rapid.T) {
				r := s.own.next()
				if r == nil {
					return
				}
				c := r.from.conn
				if model[c][0] != r {
					t.Fatal("not the oldest of its client")
				}
				s.dequeue(r, true)
				model[c] = model[c][1:]
				for other := range since {
					since[other]++
				}
				since[c] = 0
				for other, l := range model {
					if len(l) > 0 && since[other] > len(clients) {
						t.Fatalf("a client waits for %d turns", since[other])
					}
				}
			},
			"cancel": func(t *rapid.T) {
				c := rapid.SampledFrom(clients).Draw(t, "client")
				if len(model[c]) == 0 {
					return
				}
				i := rapid.IntRange(0, len(model[c])-1).Draw(t, "at")
				s.dequeue(model[c][i], false)
				model[c] = slices.Delete(model[c], i, i+1)
			},
			"back": func(t *rapid.T) { // served and lost: to its place by age
				r := s.own.next()
				if r == nil {
					return
				}
				s.dequeue(r, true)
				r.deliveries = 1
				s.enqueue(r)
				for other := range since {
					since[other] = 0
				}
			},
			"sweep": func(*rapid.T) { s.own.sweep() },
			"": func(t *rapid.T) {
				var octets int64
				for c, l := range s.own.lines {
					octets += l.octets
					if l.requests.n != len(model[c]) {
						t.Fatalf("a line of %d, want %d", l.requests.n, len(model[c]))
					}
				}
				if s.queued() != waiting() || octets != int64(waiting()) || len(s.waiting()) != waiting() {
					t.Fatalf("%d queued, %d octets, %d listed, want %d", s.queued(), octets, len(s.waiting()), waiting())
				}
			},
		})
	})
}

// Queueing allocates nothing once a client has its line.
func TestQueueAllocatesNothing(t *testing.T) {
	s := newService(&Broker{start: time.Now()}, "s")
	r := &request{size: 1, from: origin{conn: &conn{}}, body: zsock.Body{}}
	if n := testing.AllocsPerRun(100, func() {
		s.enqueue(r)
		s.dequeue(r, true)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// lines makes a queue of lines of these lengths.
func lines(lengths ...int) *queue {
	var q queue
	var clock uint64
	q.init(&clock, false)
	for _, n := range lengths {
		l := q.line(&conn{})
		for at := range n {
			l.insert(nil, &request{entered: int64(at), size: 1})
		}
	}
	return &q
}

// before tells how many requests of its line are before r.
func before(r *request) (n int) {
	for r = r.waiting.prev; r != nil; r = r.waiting.prev {
		n++
	}
	return n
}

// The first request behind so many is found from whichever end of its line is nearer.
// However long the queue, only so many are walked past and looked at: then it is one
// farther behind, and never one before.
func TestAfter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(1, 60), 1, 4).Draw(t, "lengths")
		q := lines(lengths...)
		skip := rapid.IntRange(0, q.n+2).Draw(t, "skip")
		looks := rapid.IntRange(1, 40).Draw(t, "looks")
		every := rapid.IntRange(1, 5).Draw(t, "every")
		looked := 0
		r := q.after(skip, looks, func(r *request) bool {
			looked++
			return looked%every == 0
		})
		if looked > looks {
			t.Fatalf("%d were looked at, of at most %d", looked, looks)
		}
		if r == nil {
			if skip < q.n && every == 1 && len(lengths) == 1 {
				t.Fatal("none is found")
			}
			return
		}
		depth := skip / len(lengths)
		if n := before(r); n < depth {
			t.Fatalf("one with %d before it in its line is found behind %d in each", n, depth)
		}
		if steps := min(depth, lengths[0]-1-depth); len(lengths) == 1 && every == 1 && steps <= looks && before(r) != depth {
			t.Fatalf("one with %d before it is found; one with %d is %d steps away", before(r), depth, steps)
		}
	})
}

// A backlog so long that its middle is out of reach still has something to hand over.
func TestAfterFarFromBothEnds(t *testing.T) {
	t.Parallel()
	q := lines(10_000)
	r := q.after(5_000, maxLookedThrough, func(*request) bool { return true })
	if r == nil || before(r) < 5_000 {
		t.Errorf("found %v", r)
	}
}
