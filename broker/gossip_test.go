package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Gossip is woken by what is news, unless it looks soon by itself.
func TestNewsWakeGossipOnce(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	b.linkCount.Store(1)
	s := newService(b, "s")
	woken := func(at int64) bool {
		b.takeNews()
		b.gossipAt = at
		s.mu.Lock()
		s.changed()
		s.mu.Unlock()
		if len(b.news) != 1 {
			t.Fatalf("%d services are news, want 1", len(b.news))
		}
		select {
		case <-b.gossipWake:
			return true
		default:
			return false
		}
	}
	soon, later := b.now()+int64(updateInterval)/2, b.now()+int64(time.Hour)
	if !woken(0) || woken(soon) || !woken(later) {
		t.Error("want gossip woken where it waits for that or for long, and else not")
	}
	if b.takeNews(); b.gossipAt != 0 {
		t.Error("who has taken the news is not about to")
	}
}

// What changes while an update is due is in it.
func TestUpdateHasTheLatest(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		p := m.fakePeer(b, "p")
		m.pass(3 * time.Second)
		for len(p.got) > 0 {
			<-p.got
		}
		m.worker(b, "s", 1)
		m.pass(updateInterval / 2)
		m.worker(b, "s", 2)
		m.pass(updateInterval/2 + time.Millisecond)
		if e := p.entry(); e.Load != (mdp.Load{Workers: 3}) {
			t.Errorf("told %+v, want 3 places", e.Load)
		}
	})
}
