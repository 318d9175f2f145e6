package broker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// In the grace after a pause everybody counts as heard, and nobody as still sending: what
// would be said to all idle clients at once may take so long that it is a pause again.
func TestGraceIsNoReasonToSpeak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		beats := 0
		for range 50 {
			x := w.connect(0, func(m *message) {
				if m.Kind == mdp.Heartbeat {
					beats++
				}
			}, func() { t.Error("a connection was ended") })
			x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Hello, Dialect: mdp.Native, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "c"})})
		}
		w.run(5 * time.Second)
		w.asleep = w.now() + 2*time.Second // a pause
		w.run(7 * time.Second)
		if n := w.b.Counters()["pauses"]; n != 1 || beats != 0 {
			t.Errorf("after %d pauses %d heartbeats were said to idle clients", n, beats)
		}
	})
}

// A client whose large request is still coming waits for an answer already and counts
// our silence: it hears from us about each second, though it has nothing outstanding here yet.
// When nothing comes any more, it is idle.
func TestWhoIsStillSendingHearsUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		var heard []time.Duration
		arrive := func(m *message) {
			if m.Kind == mdp.Heartbeat {
				heard = append(heard, w.now())
			}
		}
		x := w.connect(0, arrive, func() { t.Error("the connection was ended") })
		x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Hello, Dialect: mdp.Native, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "c"})})
		const sending = 10 * time.Second
		for at := time.Duration(0); at < sending; at += 100 * time.Millisecond {
			w.in(at, func() { x.reads++ }) // a part of a message has come
		}
		w.run(sending)
		gaps := []time.Duration{}
		for i, at := range heard[min(1, len(heard)):] {
			gaps = append(gaps, at-heard[i])
		}
		if len(gaps) < 8 || slices.Max(gaps) > 1100*time.Millisecond {
			t.Errorf("while it sent, it heard us at %v", heard)
		}
		heard = nil
		w.run(20 * time.Second)
		if len(heard) > 2 {
			t.Errorf("when it was silent, it heard us at %v", heard)
		}
	})
}
