package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// TestNothingLostNothingDoubled kills every process of the pipeline while records
// come in, one after the other, then all of a kind, then all at once, and some
// while others hang. What was sent is stored and counted: all of it, once.
func TestNothingLostNothingDoubled(t *testing.T) {
	t.Parallel()
	const connections, least = 4, 1250
	m := start(t)
	var l ledger
	f := feed(m, &l, connections, least, 30*time.Millisecond)

	rounds := [][]string{
		{"transform-a:0"}, {"transform-b:1"}, {"broker-a"}, {"rollup"}, {"transform-a:1"}, {"ingest"},
		{"push"}, {"broker-b"}, {"transform-b:0"}, {"ingest"}, {"rollup"},
		{"transform-a:0", "transform-a:1"}, {"transform-a:0", "transform-a:1", "transform-b:0", "transform-b:1"},
		{"broker-a", "broker-b"}, {"ingest", "broker-b", "rollup"}, children,
	}
	for _, victims := range slices.Concat(rounds, rounds) {
		f.flows(t, 150)
		before := make(map[string]child)
		for _, c := range m.all() {
			before[c.Name] = c
		}
		for _, name := range victims {
			m.kill(before[name])
		}
		begun := time.Now()
		f.flows(t, 1)
		flowing := time.Since(begun)
		for _, name := range victims {
			m.healed(before[name])
		}
		t.Logf("%v: next answer after %v, back after %v", victims, flowing, time.Since(begun))
	}
	for _, mute := range [][]string{children[2:6], children[:2]} {
		m.killInTheMidst(f, mute)
	}
	f.flows(t, 150)
	f.stop(t)
	m.ready()

	sent, ok := l.counts()
	if sent < connections*least || ok != sent {
		t.Errorf("%d records sent, %d answered ok", sent, ok)
	}
	if f.resent == 0 || f.connects <= connections {
		t.Errorf("%d lines resent over %d connections: the kills hit nothing", f.resent, f.connects)
	}
	shown := l.shownBy(t, m)
	l.storedBy(t, m)
	t.Logf("%d records over %d connections, %d lines sent again", sent, f.connects, f.resent)

	// The same once more, as a program does that lost its notes.
	for _, r := range l.sent {
		if got := m.tell(r); got != okAnswer {
			t.Fatalf("%+v again: %s", r, got)
		}
		break
	}
	again := feed(m, &l, connections, least, time.Microsecond)
	again.stop(t)
	if after := l.shownBy(t, m); !maps.EqualFunc(shown, after, slices.Equal) {
		t.Error("sending again what is there changed a roll-up")
	}
	l.storedBy(t, m)
}

// killInTheMidst pauses the mute ones, so that records come as far as they get
// and no further, and kills ingest while it holds many; then the mute ones, too.
func (m *mesh) killInTheMidst(f *feeder, mute []string) {
	m.t.Helper()
	f.flows(m.t, 150)
	before := make(map[string]child)
	for _, c := range m.all() {
		before[c.Name] = c
	}
	for _, name := range mute {
		if pid := before[name].PID; pid <= 1 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
			m.t.Fatalf("cannot pause %+v", before[name])
		}
	}
	meshproc.Eventually(m.t, "many records wait for their answer", func() error {
		if sent, ok := f.ledger.counts(); sent-ok < 100 {
			return fmt.Errorf("%d sent, %d answered", sent, ok)
		}
		return nil
	})
	victims := append([]string{"ingest"}, mute...)
	for _, name := range victims {
		m.kill(before[name])
	}
	for _, name := range victims {
		m.healed(before[name])
	}
}
