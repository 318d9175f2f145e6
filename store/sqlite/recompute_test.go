package sqlite

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

func TestLastIsTheLatestRow(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	apply(t, s,
		rec("s", "b", 3*time.Second, 30, 0),
		rec("s", "a", 3*time.Second, 20, 0), // same time, lesser id
		rec("s", "c", 1*time.Second, 10, 0),
		rec("s", "z", -5*time.Hour, 1, 0))
	for _, p := range rollUp(t, s, 10) {
		if !p.Start.Before(noon.Add(-time.Hour)) || p.Window == store.Day {
			if p.Last != 30 {
				t.Errorf("%+v: last %v, want 30", p, p.Last)
			}
		}
	}
}

// TestSumsAreExact adds values that cancel out, in one window and over several.
func TestSumsAreExact(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	m := model{}
	for i, v := range []float64{1e16, 1, -1e16, 1e-8, 0.1, 1e16, 3, -1e16, 0.2, -0.30000000000000004} {
		for series, step := range map[string]time.Duration{"near": time.Second / 2, "far": 7 * time.Minute} {
			r := rec(series, fmt.Sprint(i), time.Duration(i)*step, v, 0)
			m.apply(r)
			apply(t, s, r)
		}
	}
	rollUp(t, s, 3)
	checkPoints(t, s, m, allPoints(t, s, 500))
}

// TestSumStopsAtTheEdge adds more than a float64 can hold.
func TestSumStopsAtTheEdge(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for i := range 40 {
		apply(t, s, rec("up", fmt.Sprint(i), time.Duration(i)*time.Second, math.MaxFloat64, 0),
			rec("down", fmt.Sprint(i), time.Duration(i)*time.Second, -math.MaxFloat64, 0))
	}
	for _, p := range rollUp(t, s, 100) {
		want := math.MaxFloat64
		if p.Series == "down" {
			want = -want
		}
		if p.Sum != want || p.Mean != want/float64(p.Count) {
			t.Errorf("%+v: want sum %v", p, want)
		}
	}
}

// TestUnchangedIsNotRewritten marks windows whose result stays the same.
func TestUnchangedIsNotRewritten(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	apply(t, s, rec("s", "1", 0, 1, 0), rec("s", "2", time.Second, 5, 0))
	rollUp(t, s, 10)
	apply(t, s, rec("s", "1", time.Second/2, 1, 1)) // moves within its window
	if n := dirtyWindows(t, s); n != 1 {
		t.Fatalf("%d windows marked, want 1", n)
	}
	if points := rollUp(t, s, 10); len(points) != 0 {
		t.Errorf("%+v written, want none", points)
	}
	if n := dirtyWindows(t, s); n != 0 {
		t.Errorf("%d windows marked, want none", n)
	}
}

// TestOldestMarkFirst keeps a window that changes all the time from going to the
// end of the line again and again, and from keeping others waiting.
func TestOldestMarkFirst(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var order []string
	for i, series := range []string{"c", "a", "b"} {
		apply(t, s, rec(series, "1", 0, 1, 0))
		apply(t, s, rec("c", fmt.Sprint("more", i), 0, 1, 0)) // marked first, touched again and again
	}
	for more := true; more; {
		var points []store.Point
		var err error
		if points, more, err = s.Recompute(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		order = append(order, points[0].Series)
	}
	if want := []string{"c", "a", "b"}; !slices.Equal(order, want) {
		t.Errorf("computed in the order %v, want %v", order, want)
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for i := range 10 {
		apply(t, s, rec("s", fmt.Sprint(i), time.Duration(i)*time.Minute, float64(i), 0))
	}
	rollUp(t, s, 100)
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	for name, test := range map[string]struct {
		query store.Query
		want  []float64 // sums
	}{
		"all":            {store.Query{}, []float64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		"newest two":     {store.Query{Limit: 2}, []float64{8, 9}},
		"from inclusive": {store.Query{From: at(7)}, []float64{7, 8, 9}},
		"to exclusive":   {store.Query{To: at(2)}, []float64{0, 1}},
		"between":        {store.Query{From: at(2), To: at(5), Limit: 2}, []float64{3, 4}},
		"within one":     {store.Query{From: at(2).Add(1), To: at(3)}, nil},
		"far bounds":     {store.Query{From: time.Date(1, 2, 0, 0, 0, 0, 0, time.UTC), To: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC), Limit: 1}, []float64{9}},
		"other series":   {store.Query{Series: "unknown"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			q := test.query
			q.Window = store.Minute
			if q.Series == "" {
				q.Series = "s"
			}
			points, err := s.Points(t.Context(), q)
			if err != nil || points == nil {
				t.Fatalf("%v, %v", points, err)
			}
			var sums []float64
			for _, p := range points {
				sums = append(sums, p.Sum)
			}
			if !slices.Equal(sums, test.want) {
				t.Errorf("sums %v, want %v", sums, test.want)
			}
		})
	}
	for _, q := range []store.Query{{Series: "s", Window: "week"}, {Series: "s", Window: store.Day, Limit: -1}} {
		if _, err := s.Points(t.Context(), q); err == nil {
			t.Errorf("%+v: no error", q)
		}
	}
	if _, err := s.Since(t.Context(), 0, 0); err == nil {
		t.Error("since without limit: no error")
	}
	if _, _, err := s.Recompute(t.Context(), 0); err == nil {
		t.Error("recompute without limit: no error")
	}
}

// TestIndexes asks SQLite how it runs the reading queries: none may sort or scan
// all points.
func TestIndexes(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for _, query := range []string{sinceQuery, newestQuery, pointsQuery} {
		rows, err := s.read.Query("EXPLAIN QUERY PLAN "+query, []any{1, 2, 3, 4, 5}[:strings.Count(query, "?")]...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"USE TEMP B-TREE FOR ORDER BY", "SCAN p", "SCAN n", "SEARCH p USING AUTOMATIC"} {
				if strings.HasPrefix(detail, bad) {
					t.Errorf("%s: %s", query, detail)
				}
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
