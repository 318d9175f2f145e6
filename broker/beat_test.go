package broker

import "testing"

// The ticker does not keep what it says until it has looked at everybody.
func TestBeatWritesInBetween(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		first := m.client(b, "first")
		conns := b.allConns()
		w := newWorld(1)
		for range flushEvery {
			x := w.connect(0, func(*message) {}, func() {})
			conns = append(conns, &x.conn)
		}
		last := conns[len(conns)-1]
		came := -1
		last.z = &observed{wire: last.z.(*wire), look: func() {
			m.settle()
			came = len(first.beats)
		}}
		conns[0].watch.heard, conns[0].watch.said = b.now(), b.now()
		conns[0].watch.sent, conns[0].watch.reads = conns[0].sent.Load(), conns[0].z.Reads()
		b.beat(conns, b.now()+int64(idleInterval), true)
		if came != 1 {
			t.Errorf("%d heartbeats had come when the last connection was looked at", came)
		}
	})
}

// observed is a connection that tells when it is looked at.
type observed struct {
	*wire
	look func()
}

func (o *observed) Reads() uint32 {
	o.look()
	return o.wire.Reads()
}
