package rig

import (
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// handshakes is the p99 of the times of so many handshakes in a row.
func handshakes(t testing.TB, b *Broker, n int) time.Duration {
	t.Helper()
	var times []time.Duration
	for range n {
		begun := time.Now()
		if err := Handshake(b.Requests); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(begun))
	}
	return p99(times)
}

// Silence is what many silent connections cost.
type Silence struct {
	Without, With time.Duration // the p99 of others' handshakes
	Each          int64         // octets by which the broker grew, for each connection
	Shaking       int           // of them at once in a handshake
}

// Silent opens many connections that say nothing, or half a greeting.
func Silent(t testing.TB, b *Broker, count int) (s Silence) {
	t.Helper()
	const shaken = 1500      // takes less than the second for which the crowd is quiet
	handshakes(t, b, shaken) // warm
	s.Without = handshakes(t, b, shaken)
	before := RSS(t, b.PID())
	crowd := Actor(t, "silent", b.Requests, Fresh(), Set(actor.Count, count))
	crowd.Line(t, "turn 1 opened")
	s.Shaking, s.Each = b.State(t).Transport[0].Handshaking, (RSS(t, b.PID())-before)/int64(count)
	s.With = handshakes(t, b, shaken) // the crowd is quiet for a second
	if s.Shaking == 0 {
		t.Fatal("nobody is silent")
	}
	return s
}

// Live opens many native sessions and returns the process that keeps them, and how
// many octets each takes.
func Live(t testing.TB, b *Broker, count int) (crowd *meshproc.Process, each int64) {
	t.Helper()
	before := RSS(t, b.PID())
	crowd = Actor(t, "live", b.Requests, Fresh(), Set(actor.Count, count))
	crowd.Line(t, fmt.Sprint("open ", count))
	return crowd, (RSS(t, b.PID()) - before) / int64(count)
}

// PauseAmongIdle is Pause beside idle workers: it also tells how many sessions the
// broker has expired.
func PauseAmongIdle(t testing.TB, b *Broker, pause time.Duration) (o Outcome, expired uint64, took time.Duration) {
	t.Helper()
	for range 3 {
		Worker(t, b.Requests, Fresh())
	}
	o, took = Pause(t, b, pause)
	<-time.After(time.Second) // a beat later nobody has an excuse for expiring them
	return o, b.State(t).Counters["sessions_expired"], took
}
