package broker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

func (p *peer) question(name string) {
	p.m.t.Helper()
	p.send(mdp.Command{Kind: mdp.Request, Service: []byte(name)})
}

// Lists are told by the clerk, to everybody in his own protocol.
func TestClerkTellsLists(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		m.worker(b, "s", 1)
		for _, dialect := range []mdp.Dialect{mdp.Native, mdp.V01, mdp.V02} {
			c := m.dial(b, "c", mdp.Client, dialect)
			for _, name := range lists {
				c.send(mdp.Command{Kind: mdp.Request, Service: []byte(name), Head: mdp.Head{Token: 7, ID: mdp.RequestID{8}}}, mdp.RequestID{8}.String())
				f := c.expect(mdp.Final)
				var rows []any
				if err := json.Unmarshal(f.frames[f.Body], &rows); err != nil {
					t.Errorf("%s in %v: %v", name, dialect, err)
				}
				if dialect == mdp.Native && (f.Head.Token != 7 || f.Head.ID != mdp.RequestID{8}) || dialect != mdp.Native && string(f.Service) != name {
					t.Errorf("%s in %v: %+v", name, dialect, f.Head)
				}
			}
		}
	})
}

// Who reads for many makes no lists: while the clerk is away, they wait for it, and
// what is quick is answered.
func TestReadersMakeNoLists(t *testing.T) {
	w := newWorld(1)
	var got []string
	x := w.connect(0, func(m *message) { got = append(got, string(m.Service)) }, func() {})
	for _, name := range append(lists, "mmi.service", "mmi.other") {
		x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Request, Dialect: mdp.V02, Service: []byte(name)}, "s")
	}
	w.run(time.Millisecond)
	if len(got) != 2 || len(w.b.clerk.desk) != len(lists) {
		t.Errorf("answered %v, and %d wait for the clerk", got, len(w.b.clerk.desk))
	}
}

// One connection asks for a bounded number of lists a second; what is quick to answer
// it may ask for ever.
func TestQuestionsAreBounded(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		native, foreign := m.client(b, "c"), m.dial(b, "f", mdp.Client, mdp.V02)
		for second := range 2 {
			refused := 0
			for range maxAsked + 5 {
				native.question("mmi.services")
				foreign.question("mmi.services")
				m.settle()
			}
			for range maxAsked + 5 {
				if mdp.Status(native.expect(mdp.Final).Head.Status) == mdp.Busy {
					refused++
				}
			}
			for range maxAsked {
				foreign.expect(mdp.Final)
			}
			foreign.quiet()
			if refused != 5 {
				t.Errorf("%d refused in second %d", refused, second)
			}
			m.wantCount(b, "mmi_refused", uint64(10*(second+1)))
			m.pass(time.Second)
		}
		for range 3 * maxAsked {
			native.question("mmi.service")
			native.expect(mdp.Final)
		}
	})
}

// A list that took long to make is told again for ten times as long.
func TestListsAreKept(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		services := func() (n int) {
			c.question("mmi.services")
			var rows []ServiceState
			f := c.expect(mdp.Final)
			if err := json.Unmarshal(f.frames[f.Body], &rows); err != nil {
				t.Fatal(err)
			}
			m.settle()
			return len(rows)
		}
		services()
		c.ask("s", "x")
		m.settle()
		if n := services(); n != 1 {
			t.Errorf("%d services: what took no time is not kept", n)
		}
		l := listing{asked: "mmi.services"}
		kept := b.clerk.kept[l]
		kept.until = b.now() + int64(time.Second)
		b.clerk.kept[l] = kept
		c.ask("s2", "x")
		m.settle()
		if n := services(); n != 1 {
			t.Errorf("%d services while the list is good", n)
		}
		m.pass(time.Second)
		if n := services(); n != 2 {
			t.Errorf("%d services later", n)
		}
	})
}

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
