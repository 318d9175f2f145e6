package broker

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
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
	synctest.Test(t, readersMakeNoLists)
}

func readersMakeNoLists(t *testing.T) {
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

// One connection has a bounded number of questions waiting; what is quick to answer it
// may ask for ever.
func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, questionsAreBounded)
}

func questionsAreBounded(t *testing.T) {
	w := newWorld(1)
	var answers []mdp.Status
	arrive := func(m *message) { answers = append(answers, mdp.Status(m.Head.Status)) }
	ask := func(x *wire, dialect mdp.Dialect, question string) {
		x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Request, Dialect: dialect, Service: []byte(question)}, "s")
		w.run(0)
	}
	native, foreign, other := w.connect(0, arrive, func() {}), w.connect(0, arrive, func() {}), w.connect(0, arrive, func() {})
	for range maxAsking + 5 {
		ask(native, mdp.Native, "mmi.services")
		ask(foreign, mdp.V02, "mmi.services")
	}
	if len(answers) != 5 || slices.ContainsFunc(answers, func(s mdp.Status) bool { return s != mdp.Busy }) {
		t.Errorf("answered %v", answers)
	}
	if n := w.b.Counters()["mmi_refused"]; n != 10 {
		t.Errorf("%d refused", n)
	}
	if ask(other, mdp.Native, "mmi.services"); len(w.b.clerk.desk) != 2*maxAsking+1 {
		t.Errorf("%d wait for the clerk", len(w.b.clerk.desk))
	}
	answers = nil
	for range 3 * maxAsking {
		ask(native, mdp.Native, "mmi.service")
	}
	if len(answers) != 3*maxAsking {
		t.Errorf("%d answers to what is quick", len(answers))
	}
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
