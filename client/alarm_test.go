package client_test

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// All calls share one timer: each ends at its own deadline nonetheless, also those
// that were begun later than others and end earlier.
func TestEachCallEndsAtItsDeadline(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		timeouts := []time.Duration{5, 3, 4, 1, 2, 1, 7, 6, 3600, 5}
		var calls []<-chan outcome
		for _, s := range timeouts {
			calls = append(calls, m.do(t.Context(), client.Call{Service: "echo", Timeout: s * time.Second}))
		}
		last := timeouts[len(timeouts)-2] // answered in time
		r := m.request(0)
		for ; r.Head.Remaining < uint32(1000*last-100); r = m.brokers[0].Expect(mdp.Request) {
		}
		r.Answer(mdp.Final, []byte("in time"))
		for i, done := range calls {
			o := <-done
			if timeouts[i] == last {
				o.mustAnswer(t, "in time")
				continue
			}
			o.mustFail(t, mdp.Expired, true)
			if d := o.took - timeouts[i]*time.Second; d < 0 || d > time.Millisecond {
				t.Errorf("ended after %v, want %d s", o.took, timeouts[i])
			}
		}
	})
}

// A timeout beyond what time can hold is no deadline in the past.
func TestEndlessTimeout(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Timeout: 1<<63 - 1})
		r := m.request(0)
		time.Sleep(time.Hour)
		r.Answer(mdp.Final, []byte("an hour later"))
		(<-done).mustAnswer(t, "an hour later")
	})
}
