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

// The first calm one counts, else the calmest of as many as may be.
func TestCalmest(t *testing.T) {
	for _, test := range []struct {
		tries  int
		stolen []int64 // of 100 ticks, by try
		want   int     // the try that counts, from 1
		calls  int
	}{{0, []int64{50}, 1, 1}, {3, []int64{1, 0}, 1, 1}, {3, []int64{50, 1, 0}, 2, 2}, {3, []int64{50, 20, 40}, 2, 3}} {
		calls, now := 0, machine{}
		got, stolen, err := calmest(test.tries, func() machine { return now }, func() (int, error) {
			now.busy += 100 - test.stolen[calls]
			now.stolen += test.stolen[calls]
			calls++
			return calls, nil
		})
		if err != nil || got != test.want || calls != test.calls || stolen != float64(test.stolen[got-1])/100 {
			t.Errorf("%+v: the %d. of %d tries, %v stolen, %v", test, got, calls, stolen, err)
		}
	}
}
