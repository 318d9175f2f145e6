package broker

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mdmesh/mdmesh/mdp"
)

// Each time is in the bucket it belongs to, and quantiles are right to a factor of two.
func TestHistogram(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.SliceOfN(rapid.IntRange(0, 1<<30), 1, 50).Draw(t, "us")
		var h, twice Histogram
		var sum uint64
		for _, v := range us {
			h.add(int64(v)*1_000 + 999)
			sum += uint64(v)
		}
		for i, n := range h.Buckets {
			want := uint64(0)
			for _, v := range us {
				low := uint64(0)
				if i > 0 {
					low = HistogramBound(i - 1)
				}
				if uint64(v) >= low && (uint64(v) < HistogramBound(i) || i == histogramBuckets-1) {
					want++
				}
			}
			if n != want {
				t.Fatalf("bucket %d has %d, want %d", i, n, want)
			}
		}
		twice.Merge(&h)
		twice.Merge(&h)
		if h.Count != uint64(len(us)) || h.SumUs != sum || twice.Count != 2*h.Count || twice.SumUs != 2*sum {
			t.Fatalf("%d values of sum %d, want %d of %d", h.Count, h.SumUs, len(us), sum)
		}
	})
	var h Histogram
	for i := range 1_000 {
		h.add(int64(i) * int64(time.Millisecond))
	}
	for q, want := range map[float64]int64{0: 0, 0.5: 500_000, 0.99: 990_000} {
		if got := h.quantile(q); got > 2*want || 2*got < want {
			t.Errorf("quantile %v is %d us, want about %d", q, got, want)
		}
	}
	if (&Histogram{}).quantile(0.5) != 0 || (&Histogram{}).times() != (Times{}) {
		t.Error("nothing is something")
	}
}

// Waiting is from entry to the first dispatch, running from the last one to the
// answer of a handler, whatever it is.
func TestWaitAndRunAreMeasured(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		c := m.client(b, "c")
		c.ask("s", "x")
		m.pass(3 * time.Second)
		w := m.worker(b, "s", 1)
		w.take()
		m.pass(time.Second)
		w.close() // neither waited for again nor run
		m.settle()
		w = m.worker(b, "s", 1)
		r := w.take()
		m.pass(100 * time.Millisecond)
		w.answer(r)
		c.expect(mdp.Final)
		c.ask("s", "x")
		r = w.take()
		m.pass(200 * time.Millisecond)
		w.refuse(r, &mdp.Error{Status: mdp.AppError})
		c.expect(mdp.Final)
		var st struct{ Wait, Run Times }
		p, err := json.Marshal(b.Services()[0])
		if err == nil {
			err = json.Unmarshal(p, &st)
		}
		if err != nil {
			t.Fatal(err)
		}
		if st.Wait.Count != 2 || st.Wait.MeanUs != 1_500_000 || st.Wait.P99Us < 1<<21 || st.Wait.P99Us > 1<<22 {
			t.Errorf("wait %+v", st.Wait)
		}
		if st.Run.Count != 2 || st.Run.MeanUs != 150_000 || st.Run.P50Us < 1<<16 || st.Run.P50Us > 1<<17 {
			t.Errorf("run %+v", st.Run)
		}
	})
}
