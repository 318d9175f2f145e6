package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Who is not read, since the reader has something else to do, is not silent.
func TestNobodyIsSilentWhileNobodyReads(t *testing.T) {
	inBubble(t, func(*mesh) {
		w := newWorld(1)
		gone := 0
		ended := func() { gone++ }
		x := w.connect(0, func(*message) {}, ended)
		x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Hello, Dialect: mdp.Native, Service: []byte("s"), Head: mdp.Head{Status: 1},
			Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "w", Reads: true})})
		client := w.connect(0, func(*message) {}, ended)
		client.say(mdp.Command{Role: mdp.Client, Kind: mdp.Hello, Dialect: mdp.Native, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "c"})})
		w.run(time.Millisecond)
		x.say(mdp.Command{Role: mdp.Worker, Kind: mdp.Heartbeat, Dialect: mdp.Native, Head: mdp.Head{Token: x.conn.worker.Load().probe}})
		w.run(time.Millisecond)
		x.turns, client.turns = 7, 7 // from here on it is at the same thing
		client.say(mdp.Command{Role: mdp.Client, Kind: mdp.Request, Dialect: mdp.Native, Service: []byte("s"), Head: mdp.Head{Token: 1, Attempt: 1}}, "x")
		w.run(20 * time.Second)
		if c := w.b.Counters(); gone > 0 || c["sessions_expired"]+c["suspicions"] > 0 {
			t.Errorf("%d connections ended: %d expired, %d suspicions", gone, c["sessions_expired"], c["suspicions"])
		}
		x.turns, client.turns = 8, 8
		w.run(time.Second)
		if n := w.b.Counters()["suspicions"]; n != 1 {
			t.Errorf("%d suspicions when it reads again", n)
		}
		w.run(40 * time.Second)
		if gone != 2 {
			t.Errorf("%d connections ended of those that are silent", gone)
		}
	})
}

// A session that expires is counted once, however long its connection takes to end.
func TestExpiryIsCountedOnce(t *testing.T) {
	inBubble(t, func(*mesh) {
		for _, cmd := range []mdp.Command{
			{Role: mdp.Worker, Kind: mdp.Hello, Service: []byte("s"), Head: mdp.Head{Status: 1}},
			{Role: mdp.Client, Kind: mdp.Hello},
		} {
			w := newWorld(1)
			x := w.connect(0, func(*message) {}, func() {})
			cmd.Dialect, cmd.Map = mdp.Native, mdp.EncodeMap(&mdp.HelloMap{Instance: "x"})
			x.say(cmd)
			w.run(time.Millisecond)
			x.conn.z = &stubborn{wire: x}
			w.run(2 * time.Minute)
			if n, closes := w.b.Counters()["sessions_expired"], x.conn.z.(*stubborn).closes; n != 1 || closes != 1 {
				t.Errorf("%v: counted %d times, closed %d times", cmd.Role, n, closes)
			}
		}
	})
}

// stubborn is a connection that does not end.
type stubborn struct {
	*wire
	closes int
}

func (s *stubborn) Close(error) { s.closes++ }
