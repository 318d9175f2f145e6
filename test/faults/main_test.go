package faults

import (
	"testing"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

func TestMain(m *testing.M) {
	actor.Main() // this process may be one of those that are killed
	go turns.keep()
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
