package client_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// A request that was lost with its broker may have run there, whatever the next
// broker knows of it.
func TestErrorsTellOfEarlierAttempts(t *testing.T) {
	for _, status := range []mdp.Status{mdp.NoWorker, mdp.Conflict, mdp.Expired, mdp.Cancelled} {
		t.Run(status.String(), func(t *testing.T) {
			oneThenTwo(t, func(t *testing.T, m *mesh) {
				done := m.do(t.Context(), echoCall)
				m.brokers[0].Expect(mdp.Request)
				m.brokers[0].Stop()
				m.brokers[1].Expect(mdp.Request).Fail(mdp.Errorf(status, "not by me"))
				o := <-done
				o.mustFail(t, status, true)
				if !strings.Contains(o.err.Error(), "not by me") {
					t.Error(o.err)
				}
			})
		})
	}
	t.Run("no time left", func(t *testing.T) {
		oneThenTwo(t, func(t *testing.T, m *mesh) {
			done := m.do(t.Context(), echoCall)
			m.brokers[0].Expect(mdp.Request)
			m.brokers[0].Stop()
			m.brokers[1].Expect(mdp.Request).Fail(&mdp.Error{Status: mdp.Busy, RetryAfter: time.Hour})
			(<-done).mustFail(t, mdp.Busy, true)
		})
	})
	t.Run("too large for the next broker", func(t *testing.T) {
		inBubble(t, 1, func(t *testing.T, m *mesh) {
			done := m.do(t.Context(), client.Call{Service: "echo", Body: [][]byte{make([]byte, 300<<10)}})
			m.request(0)
			m.brokers[0].Stop()
			m.startWith(0, &mdp.WelcomeMap{Revision: mdp.Revision, HeartbeatMs: 1000, MaxMessage: 270 << 10})
			(<-done).mustFail(t, mdp.TooBig, true)
		})
	})
	t.Run("denied by the next broker", func(t *testing.T) {
		inBubble(t, 1, func(t *testing.T, m *mesh) {
			done := m.do(t.Context(), echoCall)
			m.request(0)
			m.brokers[0].Stop()
			m.startWith(0, nil)
			refusal := mdp.Command{Kind: mdp.Welcome}
			refusal.SetError(mdp.Errorf(mdp.Denied, "who are you"))
			m.brokers[0].Expect(mdp.Hello).Session.Send(refusal)
			(<-done).mustFail(t, mdp.Denied, true)
		})
	})
}
