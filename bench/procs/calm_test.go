package procs

import "testing"

func TestStolen(t *testing.T) {
	before := parseMachine("cpu  100 10 50 1000 5 1 4 20 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
	after := parseMachine("cpu  160 10 60 2000 5 1 14 40 0 0\n")
	if got := after.stolenSince(before); got != 0.2 {
		t.Errorf("%v of the time was stolen, want 20 of 100 ticks", got)
	}
	if got := parseMachine("nothing").stolenSince(machine{}); got != 0 {
		t.Errorf("%v where nothing is told", got)
	}
}

func TestCalmest(t *testing.T) {
	calls := 0
	got, _, err := Calmest(0, func() (int, error) { calls++; return calls, nil })
	if err != nil || got != 1 || calls != 1 {
		t.Errorf("%d after %d calls, %v", got, calls, err)
	}
}
