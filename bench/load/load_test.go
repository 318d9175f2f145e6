package load

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunKeepsOneCallInFlightPerLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var flight [4]atomic.Int32
		r := Run(len(flight), time.Second, func(lane int) error {
			if flight[lane].Add(1) != 1 {
				t.Errorf("lane %d has two calls in flight", lane)
			}
			time.Sleep(10 * time.Millisecond)
			flight[lane].Add(-1)
			if lane == 3 {
				return errors.New("no")
			}
			return nil
		})
		if r.Calls != 300 || r.Errors != 100 || r.Error != "no" || r.Seconds != 1 || r.Rate != 300 {
			t.Errorf("Run = %+v, want 300 calls and 100 errors in 1 s", r)
		}
		if r.P50 < 9990 || r.P50 > 10010 || r.P99 < r.P50 {
			t.Errorf("p50 %v us, p99 %v us, want 10 ms each", r.P50, r.P99)
		}
	})
}
