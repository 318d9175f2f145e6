package faults

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

func TestMain(m *testing.M) {
	actor.Main() // this process may be one of those that are killed
	meshproc.Main(m)
}

// counts are the outcomes of all requests in a broker's books.
type counts struct {
	Requests, Answered, Failed, Redelivered, Late, Expired, Cancelled, Busy uint64
}

// settled waits until nothing waits and nothing runs at the broker, every request has
// come to its end, and the books say want.
func settled(t *testing.T, b *rig.Broker, want counts) {
	t.Helper()
	if got := balance(t, b); got != want {
		t.Errorf("the broker counted %+v, want %+v", got, want)
	}
}

// balance waits until every request has come to its end, and returns the books.
func balance(t *testing.T, b *rig.Broker) (got counts) {
	t.Helper()
	b.Await(t, "nothing is left", func(st broker.State) bool {
		n := st.Counters
		got = counts{n["requests"], n["answered"], n["failed"], n["redelivered"], n["late"], n["expired"], n["cancelled"], n["busy"]}
		for _, s := range st.Services {
			if s.Queue > 0 || s.Running > 0 {
				return false
			}
		}
		return st.HeldOctets == 0 && got.Answered+got.Failed+got.Cancelled == got.Requests
	})
	return got
}

// bounded checks the books where a deadline ended the calls: worker, broker and client
// each have a clock, and whoever is first says so.
func bounded(t *testing.T, b *rig.Broker, requests, answered uint64) {
	t.Helper()
	if got := balance(t, b); got.Requests != requests || got.Answered != answered || got.Redelivered != 0 || got.Busy != 0 {
		t.Errorf("the broker counted %+v; want %d requests, %d of them answered, none redelivered", got, requests, answered)
	}
}

// answered fails the test unless a call was answered by this attempt and process.
func answered(t *testing.T, o rig.Outcome, attempt int, by *meshproc.Process) {
	t.Helper()
	switch {
	case o.Err != nil:
		t.Errorf("the call failed: %v", o.Err)
	case o.Attempt != attempt || o.PID != by.PID():
		t.Errorf("answered by process %d in attempt %d; want %d in attempt %d", o.PID, o.Attempt, by.PID(), attempt)
	}
}

// undisturbed is for what holds only while processes get to run: on a machine that
// lets them wait for longer than a heartbeat they are rightly called silent. Then,
// and only then, it is tried again.
func undisturbed(t *testing.T, try func() error) {
	t.Helper()
	for n := 1; ; n++ {
		gap := longestGap()
		err := try()
		switch longest := gap(); {
		case err == nil:
			return
		case longest < 100*time.Millisecond || n == 3:
			t.Error(err)
			return
		default:
			t.Logf("try %d: %v; but this process had to wait for %v: again", n, err, longest)
		}
	}
}

// longestGap watches how long this process has to wait for its turn, until the
// function it returns is called.
func longestGap() func() time.Duration {
	const tick = 10 * time.Millisecond
	stop, longest := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		last, most := time.Now(), time.Duration(0)
		for {
			select {
			case now := <-ticker.C:
				most = max(most, time.Since(last)-tick)
				last = now
			case <-stop:
				longest <- max(most, time.Since(last)-tick)
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-longest
	}
}
