package federation

import (
	"errors"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// Row 35. Five brokers in a ring, each of which dials both its neighbours, with workers
// at two of them, two hops from the farthest, and more work than these can do: requests go round nowhere, and none
// is executed twice. Then one broker is killed: an execution more is an attempt more.
func TestRing(t *testing.T) {
	t.Parallel()
	const n = 5
	ledger := newLedger()
	sites := mesh(t, []string{"a", "b", "c", "d", "e"}, func(i int) []int { return []int{(i + 1) % n, (i + n - 1) % n} })
	for i, s := range sites {
		linked(t, s, sites[(i+1)%n])
	}
	a, b, e := sites[0], sites[1], sites[4]
	a.works(t, 4, ledger.sleeping("a", 10*time.Millisecond))
	b.works(t, 2, ledger.sleeping("b", 10*time.Millisecond))
	offered(t, sites...)
	var loads []*load
	for _, s := range sites {
		loads = append(loads, drive(t, "callers at "+s.name, s.client(t), ledger, 3, false))
	}
	for _, d := range loads {
		d.some(t, 100)
		d.stop(t)
	}
	settled(t, sites...)
	calls, again := ledger.check(t)
	if again != 0 {
		t.Errorf("%d requests were executed again", again)
	}
	taken, offloaded, answered := uint64(0), uint64(0), 0
	for i, s := range sites {
		st := s.State(t)
		if len(st.Peers) != 2 {
			t.Errorf("%s has links %+v, want one to each neighbour", s.name, st.Peers)
		}
		taken, offloaded, answered = taken+st.Counters["requests"], offloaded+st.Counters["offloaded"], answered+int(loads[i].answered.Load())
	}
	if answered != calls || offloaded > 2*uint64(calls) || taken > 3*uint64(calls) {
		t.Errorf("%d calls were answered, %d executed; they were taken %d times and offloaded %d times, more than two hops each", answered, calls, taken, offloaded)
	}
	t.Logf("%d calls, offloaded %d times", calls, offloaded)

	loads = nil
	for _, s := range sites {
		loads = append(loads, drive(t, "callers at "+s.name, s.client(t), ledger, 3, false))
	}
	for _, d := range loads {
		d.some(t, 30)
	}
	e.Kill(t) // its callers were told of its neighbours
	for _, d := range loads {
		d.some(t, 50)
		d.stop(t)
	}
	calls, again = ledger.check(t)
	t.Logf("%d calls, %d executions more than that", calls, again)
	settled(t, sites[:4]...)
}

// Two hops and no further: what only the end of a chain offers is reached from two
// brokers away, and is not there for the one beyond.
func TestHopLimit(t *testing.T) {
	t.Parallel()
	ledger := newLedger()
	sites := mesh(t, []string{"a", "b", "c", "d"}, func(i int) []int { return []int{i - 1}[:min(i, 1)] })
	for i, s := range sites[1:] {
		linked(t, sites[i], s)
	}
	sites[3].works(t, 1, ledger.sleeping("d", 0))
	offered(t, sites[1:3]...)
	answeredBy(t, receive(t, ask(t, sites[1].client(t), 1, false)), "d", 1)
	_, err := sites[0].client(t).Do(t.Context(), client.Call{Service: service, NoWait: true})
	if !errors.Is(err, mdp.NoWorker) {
		t.Errorf("three hops away: %v; want NO_WORKER", err)
	}
	settled(t, sites...)
}

// Hub and spokes: brokers at the edge dial the hub, nobody dials them, and each reaches
// what others offer through the hub. When the hub is killed they serve their own, and
// when it is back, each other.
func TestHubAndSpokes(t *testing.T) {
	t.Parallel()
	ledger := newLedger()
	sites := mesh(t, []string{"hub", "x", "y", "z"}, func(i int) []int { return []int{0}[:min(i, 1)] }, "--advertise", "tcp://192.0.2.1:1")
	hub, x, y, z := sites[0], sites[1], sites[2], sites[3]
	for _, s := range sites[1:] {
		linked(t, hub, s)
	}
	x.works(t, 4, ledger.sleeping("x", 5*time.Millisecond))
	offered(t, hub, y, z)
	local := drive(t, "callers at x", x.client(t), ledger, 1, false)
	var others []*load
	for _, s := range []*site{hub, y, z} {
		d := drive(t, "callers at "+s.name, s.client(t), ledger, 2, false)
		d.some(t, 50)
		if s != hub {
			others = append(others, d)
			if st := s.State(t); len(st.Peers) != 1 || !st.Peers[0].Dialled {
				t.Errorf("%s has links %+v, want the one it dialled", s.name, st.Peers)
			}
			continue
		}
		d.stop(t)
	}
	hub.Kill(t)
	local.some(t, 100)
	*hub = *startAt(t, "hub", hub.Requests)
	for _, s := range sites[1:] {
		linked(t, hub, s)
	}
	for _, d := range append(others, local) {
		d.some(t, 50)
		d.stop(t)
	}
	settled(t, sites...)
	requests, again := ledger.check(t)
	t.Logf("%d requests executed, %d executions more than that", requests, again)
}

// staffed waits until the site has a worker of its own.
func (s *site) staffed(t *testing.T) {
	t.Helper()
	s.AwaitService(t, service, "a worker is at "+s.name, func(st broker.ServiceState) bool { return st.Workers > 0 })
}
