package broker

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Suspicion doubles little work: a burst, then a share of what is answered.
func TestBudget(t *testing.T) {
	t.Parallel()
	var b budget
	now, took := int64(1), 0
	for ; b.take(now, 0); took++ {
	}
	if took != budgetBurst {
		t.Errorf("a burst of %d", took)
	}
	for range 1_000 { // a second
		if now += int64(time.Millisecond); b.take(now, 0) {
			took++
		}
	}
	if took < budgetBurst+9 || took > budgetBurst+11 {
		t.Errorf("%d in a second", took-budgetBurst)
	}
	took = 0
	for b.take(now, 500) {
		took++
	}
	if took < 49 || took > 51 {
		t.Errorf("%d for 500 answers", took)
	}
}

// More than the budget moves later; nothing is forgotten.
func TestBudgetOfAService(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 150), m.client(b, "c")
		m.settle()
		m.frozen(w)
		for range 150 {
			c.ask("s", "x")
		}
		m.pass(time.Second)
		other := m.worker(b, "s", 150)
		m.settle()
		if n := len(other.got); n < 100 || n > 110 {
			t.Errorf("%d moved in a second", n)
		}
		m.pass(3 * time.Second) // three silent heartbeats: all is lost
		for range 150 {
			other.answer(other.take(), "y")
			c.expect(mdp.Final)
		}
		m.wantCount(b, "redelivered", 150)
		m.empty(b)
	})
}

// While the budget is used up, a suspect's requests are looked at now and then.
func TestMovingRestsWhileTheBudgetIsUsedUp(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w, c := m.worker(b, "s", 3), m.client(b, "c")
		for range 3 {
			c.ask("s", "x")
			w.take()
		}
		s := b.find([]byte("s"))
		var batch zsock.Batch
		defer batch.Flush()
		s.mu.Lock()
		defer s.mu.Unlock()
		suspect, now := s.workers.first, b.now()
		suspect.suspected(0)
		s.budget = budget{left: 0.5, at: now, answered: s.stats.Answered}
		if suspect.moveHeld(&batch, now) {
			t.Error("something moves without a budget")
		}
		s.budget.left = 3
		if suspect.moveHeld(&batch, now+int64(moveEvery)-1) {
			t.Error("it is looked at again at once")
		}
		if !suspect.moveHeld(&batch, now+int64(moveEvery)) || s.again.n != 3 {
			t.Errorf("%d have moved later", s.again.n)
		}
	})
}
