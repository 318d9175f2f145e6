package broker

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mdmesh/mdmesh/mdp"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	busyHere := view{queue: 10, workers: 2, mean: 10 * ms} // 55 ms
	for _, test := range []struct {
		name  string
		here  view
		peers []view
		hops  int
		lot   int // what every draw gives
		want  int
	}{
		{"no hops left", busyHere, []view{{idle: 5, workers: 5}}, 0, 0, -1},
		{"no peers", busyHere, nil, 2, 0, -1},
		{"an idle peer", busyHere, []view{{workers: 2, queue: 30, mean: 10 * ms}, {idle: 1, workers: 1}}, 2, 0, 1},
		{"by lot, weighted", busyHere, []view{{idle: 2, workers: 2}, {idle: 3, workers: 3}}, 2, 1, 0},
		{"by lot, weighted, the other", busyHere, []view{{idle: 2, workers: 2}, {idle: 3, workers: 3}}, 2, 2, 1},
		{"the nearest class first", busyHere, []view{{idle: 9, workers: 9, oneWay: 5 * ms, class: 3}, {idle: 1, workers: 1, oneWay: ms / 2}}, 2, 0, 1},
		{"the own zone first", busyHere, []view{{idle: 9, workers: 9, class: lengths}, {idle: 1, workers: 1, oneWay: 5 * ms, class: 3}}, 2, 0, 1},
		{"idle before behind", busyHere, []view{{workers: 9, via: 9}, {idle: 1, workers: 1}}, 2, 0, 1},
		{"behind before busy", busyHere, []view{{workers: 9, mean: ms, queue: 1}, {via: 1}}, 2, 0, 1},
		{"claims beyond all figures", busyHere, []view{{workers: 1, queue: 1 << 32, mean: 1 << 52}}, 2, 0, -1},
		{"too far for the wait here", view{queue: 1, workers: 4, mean: 10 * ms}, []view{{idle: 9, workers: 9, oneWay: 40 * ms}}, 1, 0, -1},
		{"nobody here: any distance", view{}, []view{{idle: 1, workers: 1, oneWay: time.Second}}, 1, 0, 0},
		{"suspects get nothing", busyHere, []view{{idle: 9, workers: 9, suspect: true}}, 2, 0, -1},
		{"sent more than offered: a queue", view{queue: 1, workers: 2, mean: 10 * ms}, []view{{idle: -8, workers: 2, mean: 10 * ms}}, 2, 0, -1},
		{"behind a peer", busyHere, []view{{workers: 0, via: 3}}, 2, 0, 0},
		{"behind a peer, but one hop left", busyHere, []view{{workers: 0, via: 3}}, 1, 0, -1},
		{"behind a far peer", view{queue: 0, workers: 1, mean: 10 * ms}, []view{{via: 3, oneWay: 6 * ms}}, 2, 0, -1},
		{"nobody here or next to here, all busy behind", view{queue: 3}, []view{{queue: 2}, {queue: 2, behind: true}}, 2, 0, 1},
		{"the same, but one hop left", view{queue: 3}, []view{{queue: 2, behind: true}}, 1, 0, -1},
		{"all busy behind, somebody here", busyHere, []view{{behind: true}}, 2, 0, -1},
		{"a busy neighbour before those behind", view{queue: 3}, []view{{behind: true}, {workers: 1, queue: 9, mean: 10 * ms}}, 2, 0, 1},
		{"the better of two", busyHere, []view{{workers: 2, queue: 6, mean: 10 * ms}, {workers: 2, queue: 3, mean: 10 * ms}}, 2, 0, 1},
		{"not worth a fifth of a service", view{queue: 1, workers: 1, mean: 10 * ms}, []view{{workers: 1, queue: 1, mean: 9 * ms, oneWay: ms / 2}}, 2, 0, -1},
		{"only those that offer it", busyHere, []view{{}, {}, {workers: 2, queue: 1, mean: 10 * ms}, {}}, 2, 0, 2},
		{"unknown service time", view{queue: 50, workers: 1}, []view{{workers: 1, queue: 3}}, 2, 0, 0},
	} {
		lot := func(n int) int { return min(test.lot, n-1) }
		if got := choose(test.here, test.peers, test.hops, lot); got != test.want {
			t.Errorf("%s: chose %d, want %d", test.name, got, test.want)
		}
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	four := view{workers: 4, mean: 10 * ms}
	for _, test := range []struct {
		name        string
		here, there view
		by          time.Duration // how much younger those there must be; never: however young
	}{
		{"equals: half a worker's coming free", four, four, 1250 * time.Microsecond},
		{"and the way, twice", four, view{workers: 4, mean: 10 * ms, oneWay: 2 * ms}, 5250 * time.Microsecond},
		{"many workers: clocks", four, view{workers: 40, mean: 10 * ms}, ms},
		{"quick work: clocks", view{workers: 1, mean: 50 * time.Microsecond}, view{workers: 1, mean: 50 * time.Microsecond}, ms},
		{"nothing known yet", view{workers: 1}, view{workers: 1}, ms},
		{"nobody here", view{}, four, 1250 * time.Microsecond},
		{"few workers there", view{workers: 15, mean: 10 * ms}, view{workers: 1, mean: 10 * ms}, never},
		{"slow ones there", four, view{workers: 4, mean: 30 * ms}, never},
		{"too far", four, view{workers: 4, mean: 10 * ms, oneWay: 3 * ms}, never},
		{"nobody there", four, view{}, never},
		{"a suspect", four, view{workers: 4, mean: 10 * ms, suspect: true}, never},
	} {
		oldestAt := int64(time.Hour)
		want := oldestAt - int64(test.by)
		if test.by == never {
			want = math.MinInt64
		}
		if got := levels(test.here, test.there, oldestAt); got != want {
			t.Errorf("%s: by %v, want %v", test.name, time.Duration(oldestAt-got), test.by)
		}
	}
}

func TestStalled(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, test := range []struct {
		name string
		here view
		from time.Duration // never: not at all
	}{
		{"three times what a worker's coming free takes", view{workers: 4, mean: 10 * ms}, 7500 * time.Microsecond},
		{"not sooner than others could know", view{workers: 4, mean: ms}, updateInterval},
		{"nothing known yet", view{workers: 4}, never},
		{"nobody here", view{mean: ms}, never},
	} {
		if test.here.stalled(test.from) || test.from < never && !test.here.stalled(test.from+1) {
			t.Errorf("%s: want it beyond %v", test.name, test.from)
		}
	}
}

// Whatever peers say, the choice is one of them that is not suspect, or none.
func TestChooseNeverLeavesTheRoad(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		figure := rapid.IntRange(-1<<31, 1<<32)
		one := rapid.Custom(func(t *rapid.T) view {
			return view{idle: figure.Draw(t, "idle"), queue: rapid.IntRange(0, 1<<32).Draw(t, "queue"), via: rapid.IntRange(0, 1<<32).Draw(t, "via"),
				workers: rapid.IntRange(0, 1<<32).Draw(t, "workers"), mean: time.Duration(rapid.IntRange(0, 1<<32).Draw(t, "mean")) * time.Microsecond,
				oneWay: time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "way")), class: rapid.IntRange(0, classes-1).Draw(t, "class"), suspect: rapid.Bool().Draw(t, "suspect")}
		})
		here, peers := one.Draw(t, "here"), rapid.SliceOfN(one, 0, 5).Draw(t, "peers")
		lot := func(n int) int {
			if n <= 0 {
				t.Fatalf("a lot among %d", n)
			}
			return rapid.IntRange(0, n-1).Draw(t, "lot")
		}
		if i := choose(here, peers, 2, lot); i >= 0 && (i >= len(peers) || peers[i].suspect) {
			t.Fatalf("chose %d", i)
		}
	})
}

func TestWaitsLonger(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, test := range []struct {
		workers      int
		mean, oneWay time.Duration
		want         int
	}{
		{4, 10 * ms, ms, 0},
		{4, 10 * ms, 5 * ms, 2},
		{4, 0, 5 * ms, 20},
		{0, 10 * ms, time.Hour, 0},
		{4, 10 * ms, math.MinInt64, 0},
		{4, ms, 1 << 61, math.MaxInt32},
		{math.MaxUint16, 1, math.MaxInt64, math.MaxInt32},
	} {
		s := standing{workers: test.workers, mean: test.mean}
		if got := s.waitsLonger(test.oneWay); got != test.want {
			t.Errorf("%d workers, mean %v, way %v: %d, want %d", test.workers, test.mean, test.oneWay, got, test.want)
		}
	}
}

// However long the way is made out to be, the position is one in a queue, and the longer
// the way, the farther back.
func TestWaitsLongerNeverLeavesTheQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		oneWay := rapid.Int64Range(0, math.MaxInt64)
		s := standing{workers: rapid.IntRange(0, 1<<32).Draw(t, "workers"), mean: time.Duration(oneWay.Draw(t, "mean"))}
		near, far := oneWay.Draw(t, "one way"), oneWay.Draw(t, "another")
		near, far = min(near, far), max(near, far)
		at, behind := s.waitsLonger(time.Duration(near)), s.waitsLonger(time.Duration(far))
		if at < 0 || behind < at || behind > math.MaxInt32 {
			t.Fatalf("position %d for %d ns, %d for %d ns", at, near, behind, far)
		}
	})
}

// Via counts what is believed idle at other neighbours no farther than the
// receiver; words on requests and answers say the same as updates do.
func TestVia(t *testing.T) {
	t.Parallel()
	all := []neighbour{
		{&ledger{heardAt: 1, load: mdp.Load{Idle: 4}}, way{}},
		{&ledger{heardAt: 1, load: mdp.Load{Idle: 2}, sent: 1}, way{class: 3}},
		{&ledger{heardAt: 1, load: mdp.Load{Idle: 8}}, way{class: 9, shut: true}},
		{&ledger{heardAt: 1, load: mdp.Load{Idle: 1}, sent: 5}, way{}},
		{&ledger{}, way{class: classes - 1}},
	}
	s := standing{idle: 7, workers: 9}
	updates := s.announce(nil, all, 0, 2)
	for i, want := range []uint32{0, 4, 5, 4, 5} {
		if word := s.word(all, i, 2); word.Via != want || updates[i].Via != want || word.Idle != 7 {
			t.Errorf("neighbour %d is told of %d and %d behind us, want %d", i, word.Via, updates[i].Via, want)
		}
	}
}

// Workers behind us, idle or busy, are those of other neighbours no farther than the
// receiver that can be reached and have said so lately.
func TestBehind(t *testing.T) {
	t.Parallel()
	with := func(workers uint32, w way) neighbour {
		return neighbour{&ledger{heardAt: 1, load: mdp.Load{Workers: workers}}, w}
	}
	for name, c := range map[string]struct {
		all  []neighbour
		want []bool
	}{
		"only one has":     {[]neighbour{with(2, way{}), with(0, way{}), with(0, way{class: 3})}, []bool{false, true, true}},
		"two have":         {[]neighbour{with(2, way{}), with(1, way{}), with(0, way{})}, []bool{true, true, true}},
		"the far one has":  {[]neighbour{with(0, way{}), with(1, way{class: 3}), with(0, way{class: 3})}, []bool{false, false, true}},
		"it is draining":   {[]neighbour{with(0, way{}), with(1, way{shut: true})}, []bool{false, false}},
		"it is paused":     {[]neighbour{with(1, way{}), with(1, way{shut: true, mute: true})}, []bool{false, false}},
		"it said long ago": {[]neighbour{with(0, way{}), {&ledger{heardAt: 1 - staleAfter, load: mdp.Load{Workers: 1}}, way{}}}, []bool{false, false}},
	} {
		s := standing{}
		for i, u := range s.announce(nil, c.all, 0, 2) {
			if u.behind != c.want[i] {
				t.Errorf("%s: neighbour %d is told %t", name, i, u.behind)
			}
		}
	}
}

// The ledger of one neighbour, step by step.
func TestLedger(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	var l ledger
	hear := func(idle, seen uint32, now int64) bool {
		return l.hear(&mdp.Load{Idle: idle, Workers: 9, Seen: seen}, false, false, now)
	}
	want := func(idle int, unconfirmed int64, now int64) {
		t.Helper()
		if got := l.believedIdle(); got != idle {
			t.Errorf("believed idle %d, want %d", got, idle)
		}
		if got := l.unconfirmedFor(now); got != unconfirmed {
			t.Errorf("unconfirmed for %d, want %d", got, unconfirmed)
		}
	}
	hear(5, 0, 1*ms)
	want(5, 0, 1*ms)
	l.ask(2 * ms)
	l.ask(3 * ms)
	want(3, 2*ms, 4*ms)
	hear(5, 1, 5*ms) // it crossed the second
	want(4, 1*ms, 6*ms)
	hear(5, 0, 6*ms) // an older word that came late takes nothing back
	want(4, 2*ms, 7*ms)
	hear(9, 1, 90*ms) // speaking is not confirming
	want(8, 85*ms, 90*ms)
	if v := l.view(way{patience: 80 * ms}, 90*ms); !v.suspect {
		t.Error("not suspect")
	}
	hear(2, 2, 100*ms)
	want(2, 0, 100*ms)
	if hear(2, 3, 101*ms) {
		t.Error("it confirmed what was never sent")
	}
	want(2, 0, 101*ms)
	if v := l.view(way{}, 101*ms+staleAfter+1); !v.suspect {
		t.Error("a word counts for ever")
	}
	l.sent, l.load.Seen = 1<<32-1, 1<<32-1 // counters go round
	l.ask(200 * ms)
	l.ask(200 * ms)
	if !hear(3, 0, 201*ms) {
		t.Error("the counter does not go round")
	}
	want(2, 0, 201*ms)
}
