package pipeline

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// TestSupervisorKilled: the children go on without it and rows arrive; the next
// supervisor takes the same processes over, heals them, and ends them all.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	m := start(t)
	var l ledger
	f := feed(m, &l, 3, 300, 10*time.Millisecond)
	f.flows(t, 50)
	before := m.pids()
	m.holder.Kill(t)
	if r := meshproc.Run(t, meshproc.Command(t, "mdsupervisor", "status", "--socket", m.socket())); r.Code != 3 {
		t.Errorf("status without a supervisor: exit code %d, %s", r.Code, r.Stderr)
	}
	f.flows(t, 200)
	for name, pid := range before {
		if !meshproc.Alive(pid) {
			t.Errorf("%s (%d) died with the supervisor", name, pid)
		}
	}

	m.hold()
	took := meshproc.Eventually(t, "the next supervisor answers", func() error { _, err := m.status(); return err })
	t.Logf("%d children taken over after %v", len(before), took)
	list := m.all()
	for _, c := range list {
		if c.PID != before[c.Name] || !c.runs() || c.Restarts != 0 {
			t.Errorf("%+v was %d", c, before[c.Name])
		}
	}
	if running := len(meshproc.Marked(t)); len(list) != len(children) || running != len(children)+1 {
		t.Errorf("%d children in the list, %d processes with the supervisor", len(list), running)
	}

	for _, name := range []string{"transform-a:0", "broker-a", "ingest"} { // adopted ones heal as well
		c := m.child(name)
		m.kill(c)
		t.Logf("%s, adopted, back after %v", name, m.healed(c))
		f.flows(t, 50)
	}
	f.stop(t)
	l.shownBy(t, m)
	l.storedBy(t, m)

	last := m.pids()
	if r := meshproc.Run(t, meshproc.Command(t, "mdsupervisor", "shutdown", "--socket", m.socket())); r.Code != 0 {
		t.Errorf("shutdown: exit code %d, %s", r.Code, r.Stderr)
	}
	if code := m.holder.Wait(t); code != 0 {
		t.Errorf("the supervisor ended with %d", code)
	}
	for name, pid := range last {
		if meshproc.Alive(pid) {
			t.Errorf("%s (%d) is left", name, pid)
		}
	}
	if left := meshproc.Marked(t); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}
