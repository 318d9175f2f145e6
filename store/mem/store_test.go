package mem

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

func record(series, id string, at time.Duration, value float64, rev int64) store.Record {
	return store.Record{Series: series, ID: id, Time: noon.Add(at), Value: value, Rev: rev}
}

func TestApplyOutcomes(t *testing.T) {
	t.Parallel()
	s := NewStore()
	got, err := s.Apply(t.Context(), []store.Record{
		record("a", "1", 0, 1, 0),
		record("a", "1", 0, 1, 0),
		record("a", "1", 0, 2, 0),
		record("a", "1", time.Minute, 2, 1),
		record("b", "1", 0, 5, 0),
	})
	want := []store.Outcome{store.Inserted, store.Duplicate, store.Conflict, store.Revised, store.Inserted}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("outcomes %v %v, want %v", got, err, want)
	}
}

func TestRecomputeRollsUp(t *testing.T) {
	t.Parallel()
	s, ctx := NewStore(), t.Context()
	must(t)(s.Apply(ctx, []store.Record{
		record("a", "1", time.Second, 4, 0),
		record("a", "3", 5*time.Second, 2, 0),
		record("a", "2", 5*time.Second, 9, 0), // same time, smaller id: not the last
		record("a", "4", 61*time.Second, 10, 0),
	}))
	if points, more, err := s.Recompute(ctx, 1); err != nil || !more || len(points) != 4 {
		t.Fatalf("first step: %d points, more %v, %v", len(points), more, err)
	}
	if _, more, err := s.Recompute(ctx, 100); err != nil || more {
		t.Fatalf("second step: more %v, %v", more, err)
	}
	check := func(w store.Window, count int64, sum, low, high, last float64) {
		t.Helper()
		points, err := s.Points(ctx, store.Query{Series: "a", Window: w})
		if err != nil || len(points) == 0 {
			t.Fatalf("%s: %v %v", w, points, err)
		}
		p := points[0]
		if p.Count != count || p.Sum != sum || p.Min != low || p.Max != high || p.Last != last || p.Mean != sum/float64(count) {
			t.Errorf("%s: %+v", w, p)
		}
	}
	check(store.TenSeconds, 3, 15, 2, 9, 2)
	check(store.Minute, 3, 15, 2, 9, 2)
	check(store.Hour, 4, 25, 2, 10, 10)
	check(store.Day, 4, 25, 2, 10, 10)

	must(t)(s.Apply(ctx, []store.Record{record("a", "4", 2*time.Second, 1, 1)}))
	s.Recompute(ctx, 100)
	check(store.Minute, 4, 16, 1, 9, 2)
	moved, _ := s.Points(ctx, store.Query{Series: "a", Window: store.Minute, From: noon.Add(time.Minute)})
	if len(moved) != 1 || moved[0].Count != 0 {
		t.Errorf("the window its row left: %+v", moved)
	}
}

func TestReaderAnswers(t *testing.T) {
	t.Parallel()
	s, ctx := NewStore(), t.Context()
	for i := range int64(5) {
		s.PutPoints(point("b", i, 0), point("a", -i, 0))
	}
	since := must(t)(s.Since(ctx, 7, 2))
	if got := revs(since); !slices.Equal(got, []int64{8, 9}) {
		t.Errorf("since 7: %v", got)
	}
	newest := must(t)(s.Newest(ctx))
	if len(newest) != 2 || newest[0].Series != "a" || newest[0].Rev != 2 || newest[1].Rev != 9 {
		t.Errorf("newest: %+v", newest)
	}
	at := func(n int64) time.Time { return point("", n, 0).Start }
	some := must(t)(s.Points(ctx, store.Query{Series: "b", Window: store.TenSeconds, From: at(1), To: at(4), Limit: 2}))
	if got := revs(some); !slices.Equal(got, []int64{5, 7}) {
		t.Errorf("points: %v, want those of starts 2 and 3", got)
	}
	if none := must(t)(s.Points(ctx, store.Query{Series: "x", Window: store.Day})); len(none) != 0 {
		t.Errorf("unknown series has %v", none)
	}
}

func TestFailAndClose(t *testing.T) {
	t.Parallel()
	s := NewStore()
	cause := errors.New("disk on fire")
	s.Fail(cause)
	if _, err := s.Newest(t.Context()); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, cause) {
		t.Errorf("while failing: %v", err)
	}
	s.Fail(nil)
	if _, err := s.Newest(t.Context()); err != nil {
		t.Errorf("healed: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Apply(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	s.Close()
	if _, _, err := s.Recompute(t.Context(), 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
}

// must gives the value of a call that has to work.
func must(t *testing.T) func(v any, err error) []store.Point {
	return func(v any, err error) []store.Point {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		points, _ := v.([]store.Point)
		return points
	}
}
