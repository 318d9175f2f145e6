package broker

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mdmesh/mdmesh/mdp"
)

// The list behaves as a slice does.
func TestList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := list[request]{place: queuePlace}
		var model []*request
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				i := rapid.IntRange(0, len(model)).Draw(t, "at")
				var at *request
				if i < len(model) {
					at = model[i]
				}
				r := &request{}
				l.insertBefore(at, r)
				model = slices.Insert(model, i, r)
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "at")
				l.remove(model[i])
				model = slices.Delete(model, i, i+1)
			},
			"": func(t *rapid.T) {
				var forth, back []*request
				for r := l.first; r != nil; r = r.waiting.next {
					forth = append(forth, r)
				}
				for r := l.last; r != nil; r = r.waiting.prev {
					back = append(back, r)
				}
				slices.Reverse(back)
				if !slices.Equal(forth, model) || !slices.Equal(back, model) || l.n != len(model) {
					t.Fatalf("list of %d, model of %d", l.n, len(model))
				}
			},
		})
	})
}

// A token finds its request as long as that lives, and never another.
func TestTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := table{base: rapid.Uint32Range(0, 1<<31).Draw(t, "base")}
		live, dead := map[uint64]*request{}, map[uint64]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 2, 5000}).Draw(t, "n") {
					r := tab.take()
					if live[r.token()] != nil || dead[r.token()] {
						t.Fatalf("token %x again", r.token())
					}
					live[r.token()] = r
				}
			},
			"release": func(t *rapid.T) {
				all := rapid.Bool().Draw(t, "all")
				for token, r := range live {
					tab.release(r)
					delete(live, token)
					dead[token] = true
					if !all {
						break
					}
				}
			},
			"": func(t *rapid.T) {
				for token, r := range live {
					if tab.find(token) != r {
						t.Fatalf("token %x lost", token)
					}
				}
				for token := range dead {
					if tab.find(token) != nil {
						t.Fatalf("token %x found after its end", token)
					}
				}
				if tab.live != len(live) {
					t.Fatalf("%d live, want %d", tab.live, len(live))
				}
			},
		})
	})
}

// Nothing is due early, everything within a tick of its deadline, and once.
func TestWheel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1)
		var w wheel
		w.init(now)
		waiting := map[*request]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				r := &request{deadline: max(1, now+int64(rapid.IntRange(-100, 20_000).Draw(t, "ms"))*int64(time.Millisecond)), wheelSlot: -1}
				w.add(r)
				waiting[r] = true
			},
			"remove": func(t *rapid.T) {
				for r := range waiting {
					w.remove(r)
					w.remove(r)
					delete(waiting, r)
					break
				}
			},
			"tick": func(t *rapid.T) {
				now += int64(rapid.SampledFrom([]int{1, 20, 21, 100, 5_000, 60_000}).Draw(t, "ms")) * int64(time.Millisecond)
				limit := rapid.IntRange(1, 5).Draw(t, "limit")
				for more := true; more; {
					due := w.due(now, nil, limit)
					for _, r := range due {
						if !waiting[r] || r.deadline > now {
							t.Fatalf("deadline %d is due at %d, waiting %t", r.deadline, now, waiting[r])
						}
						delete(waiting, r)
					}
					more = len(due) == limit
				}
				for r := range waiting {
					if r.deadline <= now {
						t.Fatalf("deadline %d is overdue at %d", r.deadline, now)
					}
				}
			},
			"": func(t *rapid.T) {
				if w.n != len(waiting) {
					t.Fatalf("%d on the wheel, want %d", w.n, len(waiting))
				}
			},
		})
	})
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		deadline, now int64
		want          uint32
	}{{0, 5, 0}, {5e6, 0, 5}, {5e6, 1, 5}, {5e6, 1e6, 4}, {5e6, 5e6 - 1, 1}, {5e6, 9e6, 1},
		{5e6, 5e6, 1}, {math.MaxUint32*1e6 + 1, 1, math.MaxUint32}, {math.MaxUint32*1e6 + 2, 1, math.MaxUint32},
		{math.MaxInt64, 1, math.MaxUint32}} {
		if got := (&request{deadline: test.deadline}).remaining(test.now); got != test.want {
			t.Errorf("deadline %d at %d: %d ms", test.deadline, test.now, got)
		}
	}
	if d := deadlineAfter(7, 0); d != 0 {
		t.Errorf("no deadline is %d", d)
	}
	for _, now := range []int64{0, 1, 1 << 40, math.MaxInt64} {
		if d := later(now, math.MaxInt64); d != math.MaxInt64 {
			t.Errorf("the longest duration after %d is %d", now, d)
		}
	}
	if d := later(5, 7); d != 12 {
		t.Errorf("7 after 5 is %d", d)
	}
}

func TestCoarse(t *testing.T) {
	t.Parallel()
	last := uint32(0)
	for n := range uint32(100_000) {
		if step := coarse(n); step < last {
			t.Fatalf("coarse(%d) = %d after %d", n, step, last)
		} else {
			last = step
		}
	}
	if coarse(0) == coarse(1) || last > 30 {
		t.Errorf("steps: 0 is %d, 1 is %d, 100,000 is %d", coarse(0), coarse(1), last)
	}
}

// Idle places are divided among those in need, all of them, the odd ones to the
// nearest and then by lot.
func TestAnnouncedIdleSumsUp(t *testing.T) {
	t.Parallel()
	for needy := 1; needy < 6; needy++ {
		for idle := range 13 {
			for draw := range uint32(7) {
				s := standing{idle: idle, workers: 20}
				var all []neighbour
				for i := range needy {
					all = append(all, neighbour{&ledger{need: true}, way{class: i / 3}}, neighbour{&ledger{}, way{}},
						neighbour{&ledger{need: true}, way{shut: true}}, neighbour{&ledger{need: true}, way{shut: true, mute: true}})
				}
				sum, near, far := uint32(0), uint32(1<<31), uint32(0)
				for i, load := range s.announce(nil, all, draw, 1) {
					if (!all[i].need || all[i].shut) && load.Idle != 0 || all[i].mute != (load.Workers == 0) {
						t.Fatalf("neighbour %+v gets %+v", all[i].way, load)
					}
					if sum += load.Idle; all[i].need && !all[i].shut {
						if all[i].class == 0 {
							near = min(near, load.Idle)
						} else {
							far = max(far, load.Idle)
						}
					}
				}
				if sum != uint32(idle) || near < far {
					t.Errorf("%d idle among %d: %d given, at least %d near, at most %d far", idle, needy, sum, near, far)
				}
			}
		}
	}
}

// What is worth a message before the refresh.
func TestIsNews(t *testing.T) {
	t.Parallel()
	base := told{idle: 2, queue: 2, workers: 4}
	for _, test := range []struct {
		name string
		need bool // the neighbour's
		was  told
		is   told
		want bool
	}{
		{"nothing", true, base, base, false},
		{"more idle, in need", true, base, told{idle: 3, queue: 2, workers: 4}, true},
		{"more idle, not in need", false, base, told{idle: 3, queue: 2, workers: 4}, false},
		{"idle withdrawn", false, base, told{idle: 1, queue: 2, workers: 4}, true},
		{"longer queue, in need", true, base, told{idle: 2, queue: 3, workers: 4}, true},
		{"longer queue, not in need", false, base, told{idle: 2, queue: 3, workers: 4}, false},
		{"own need", false, base, told{idle: 2, queue: 2, workers: 4, need: true}, true},
		{"own need, nothing waits", false, told{workers: 4}, told{workers: 4, need: true}, false},
		{"workers came", false, told{}, told{workers: 4}, true},
		{"workers left", false, told{workers: 4}, told{}, true},
		{"runs once", false, base, told{idle: 2, queue: 2, workers: 4, once: true}, true},
		{"behind us", false, told{}, told{via: 1}, true},
		{"busy behind us", false, told{}, told{behind: true}, true},
		{"busy behind us no more", false, told{behind: true}, told{}, true},
		{"busy behind us, beside our own", true, base, told{idle: 2, queue: 2, workers: 4, behind: true}, false},
		{"behind us, beside our own", true, base, told{idle: 2, queue: 2, workers: 4, via: 5}, false},
		{"confirmed a moment ago", true, base, told{idle: 2, queue: 2, workers: 4, seen: 7}, false},
	} {
		l := ledger{need: test.need, told: test.was}
		if got := l.isNews(test.is, 1); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
	l := ledger{told: base}
	l.receive(1)
	if l.isNews(base, 1) || !l.isNews(base, 1+int64(confirmWithin)) {
		t.Error("a request is confirmed within its time, and not at once")
	}
	l.confirmed()
	if l.isNews(told{idle: 2, queue: 2, workers: 4, seen: 1}, 1+int64(time.Second)) {
		t.Error("confirmed again")
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config{
		"no endpoint to listen on":  {},
		"heartbeat 1ms":             {Listen: []string{"tcp://x:1"}, Heartbeat: time.Millisecond},
		"heartbeat 1m1s is too":     {Listen: []string{"tcp://x:1"}, Heartbeat: time.Minute + time.Second},
		"max-message 10":            {Listen: []string{"tcp://x:1"}, MaxMessage: 10},
		"endpoint \"udp://x:1\"":    {Listen: []string{"udp://x:1"}},
		"endpoint \"x\"":            {Listen: []string{"tcp://x:1"}, Peers: []string{"x"}},
		"peer \"tcp://x:2,cost=":    {Listen: []string{"tcp://x:1"}, Peers: []string{"tcp://x:2,cost=-1s"}},
		"peer \"tcp://x:2,price":    {Listen: []string{"tcp://x:1"}, Peers: []string{"tcp://x:2,price=1s"}},
		"peer \"tcp://x:2\" is":     {Listen: []string{"tcp://x:1"}, Peers: []string{"tcp://x:2", "tcp://x:2,cost=1s"}},
		"name of 256 octets is too": {Listen: []string{"tcp://x:1"}, Name: string(make([]byte, mdp.MaxService+1))},
	} {
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "broker: "+want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
