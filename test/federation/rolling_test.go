package federation

import (
	"syscall"
	"testing"
	"time"
)

// Row 33. Three brokers are restarted one after the other under load: what runs is
// finished, what waits goes to the others, and no call fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	ledger := newLedger()
	others := func(i int) []int { return []int{(i + 1) % 3, (i + 2) % 3} }
	sites := mesh(t, []string{"a", "b", "c"}, others)
	for i, s := range sites {
		s.works(t, 4, ledger.sleeping(s.name, 10*time.Millisecond))
		linked(t, s, sites[(i+1)%3])
	}
	var loads []*load
	for i, s := range sites {
		c := s.client(t, sites[(i+1)%3], sites[(i+2)%3])
		loads = append(loads, drive(t, "callers at "+s.name, c, ledger, 4, false),
			drive(t, "callers once at "+s.name, c, ledger, 1, true))
	}
	for i, s := range sites {
		for _, d := range loads {
			d.some(t, 15)
		}
		begun := time.Now()
		s.Signal(t, syscall.SIGTERM)
		if code := s.Wait(t); code != 0 {
			t.Errorf("%s ended with %d", s.name, code)
		}
		t.Logf("%s was drained in %v (promise 10 s)", s.name, time.Since(begun).Round(time.Millisecond))
		for _, d := range loads {
			d.some(t, 15)
		}
		s.again(t, sites[(i+1)%3], sites[(i+2)%3])
	}
	for _, d := range loads {
		d.some(t, 15)
		d.stop(t)
	}
	settled(t, sites...)
	requests, again := ledger.check(t)
	t.Logf("%d requests executed, %d executions more than that", requests, again)
}

// again starts the site's broker anew where it was, and waits until it is linked with
// the others and its worker is back.
func (s *site) again(t *testing.T, others ...*site) {
	t.Helper()
	var flags []string
	for _, o := range others {
		flags = append(flags, "--peer", o.Requests)
	}
	*s = *startAt(t, s.name, s.Requests, flags...)
	begun := time.Now()
	for _, o := range others {
		linked(t, s, o)
	}
	links := time.Since(begun)
	s.staffed(t)
	t.Logf("%s is back: linked after %v, its worker there after %v", s.name, links.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
}
