package sqlite

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mdmesh/mdmesh/store"
)

// model is what a store must hold, computed in the plainest way.
type model map[rowKey]*modelRow

type rowKey struct{ series, id string }

type modelRow struct{ store.Record }

func (m model) apply(r store.Record) store.Outcome {
	key := rowKey{r.Series, r.ID}
	row, ok := m[key]
	same := func(o store.Record) bool { return o.Time.Equal(r.Time) && o.Value == r.Value }
	switch {
	case !ok:
		m[key] = &modelRow{r}
		return store.Inserted
	case same(row.Record):
		row.Rev = max(row.Rev, r.Rev)
		return store.Duplicate
	case r.Rev > row.Rev:
		row.Record = r
		return store.Revised
	}
	return store.Conflict
}

// points computes every window of every series from the rows; sums are exact
// (big.Float) and rounded once.
func (m model) points() map[string]store.Point {
	rows := make(map[string][]store.Record)
	for _, row := range m {
		for _, w := range store.Windows {
			p := store.Point{Series: row.Series, Window: w, Start: alignedStart(row.Time, w)}
			rows[pointKey(p)] = append(rows[pointKey(p)], row.Record)
		}
	}
	points := make(map[string]store.Point)
	for _, w := range store.Windows {
		for key, rs := range rows {
			if strings.Contains(key, "|"+string(w)+"|") {
				points[key] = plainPoint(rs, w)
			}
		}
	}
	return points
}

func alignedStart(t time.Time, w store.Window) time.Time {
	return t.UTC().Truncate(w.Length()) // Truncate counts from year 1, which is aligned to UTC days
}

func pointKey(p store.Point) string {
	return fmt.Sprintf("%s|%s|%s", p.Series, p.Window, p.Start.Format(time.RFC3339))
}

func plainPoint(rows []store.Record, w store.Window) store.Point {
	slices.SortFunc(rows, func(a, b store.Record) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	p := store.Point{Series: rows[0].Series, Window: w, Start: alignedStart(rows[0].Time, w),
		Min: rows[0].Value, Max: rows[0].Value, Last: rows[len(rows)-1].Value, Count: int64(len(rows))}
	sum := new(big.Float).SetPrec(2200)
	for _, r := range rows {
		sum.Add(sum, new(big.Float).SetFloat64(r.Value))
		p.Min, p.Max = min(p.Min, r.Value), max(p.Max, r.Value)
	}
	p.Sum, _ = sum.Float64()
	p.Mean = p.Sum / float64(p.Count)
	return p
}

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkRows compares the rows in the file with the model: none lost, none doubled.
func checkRows(t fataler, s *Store, m model) {
	t.Helper()
	rows, err := s.read.Query(`SELECT s.name, r.id, r.time, r.value, r.rev FROM rows r JOIN series s ON s.id = r.series`)
	if err != nil {
		t.Fatalf("rows: %v", err)
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var r store.Record
		var at int64
		if err := rows.Scan(&r.Series, &r.ID, &at, &r.Value, &r.Rev); err != nil {
			t.Fatalf("rows: %v", err)
		}
		seen++
		want := m[rowKey{r.Series, r.ID}]
		if want == nil || want.Time.UnixNano() != at || want.Value != r.Value || want.Rev != r.Rev {
			t.Fatalf("row %+v at %d: want %+v", r, at, want)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("rows: %v", err)
	}
	if seen != len(m) {
		t.Fatalf("%d rows, want %d", seen, len(m))
	}
}

// checkPoints compares every window of every series with the model.
func checkPoints(t fataler, s *Store, m model, all []store.Point) {
	t.Helper()
	want := m.points()
	for _, p := range all {
		w, ok := want[pointKey(p)]
		if !ok {
			t.Fatalf("point %+v: its window has no rows", p)
		}
		w.Rev = p.Rev
		if p != w {
			t.Fatalf("point\n%+v, want\n%+v", p, w)
		}
		delete(want, pointKey(p))
	}
	for key := range want {
		t.Fatalf("window %s is missing", key)
	}
}

// allPoints reads everything by Since, page by page, without the empty points.
func allPoints(t fataler, s *Store, pageSize int) (points []store.Point) {
	t.Helper()
	var rev int64
	for {
		page, err := s.Since(background(), rev, pageSize)
		if err != nil {
			t.Fatalf("since: %v", err)
		}
		if len(page) == 0 {
			return points
		}
		for _, p := range page {
			if p.Rev <= rev {
				t.Fatalf("since: rev %d after %d", p.Rev, rev)
			}
			rev = p.Rev
			if p.Count > 0 {
				points = append(points, p)
			}
		}
	}
}

// checkReaders compares Points and Newest with what Since says.
func checkReaders(t fataler, s *Store, all []store.Point) {
	t.Helper()
	type line struct {
		series string
		window store.Window
	}
	lines := make(map[line][]store.Point)
	for _, p := range all {
		l := line{p.Series, p.Window}
		lines[l] = append(lines[l], p)
	}
	var newest []store.Point
	for l, points := range lines {
		slices.SortFunc(points, func(a, b store.Point) int { return a.Start.Compare(b.Start) })
		got, err := s.Points(background(), store.Query{Series: l.series, Window: l.window})
		if err != nil || !slices.Equal(got, points) {
			t.Fatalf("points of %v: %v %v, want %v", l, got, err, points)
		}
		newest = append(newest, points[len(points)-1])
	}
	slices.SortFunc(newest, func(a, b store.Point) int {
		if c := strings.Compare(a.Series, b.Series); c != 0 {
			return c
		}
		return int(a.Window.Length()/time.Second) - int(b.Window.Length()/time.Second)
	})
	got, err := s.Newest(background())
	if err != nil || !slices.Equal(got, newest) {
		t.Fatalf("newest: %v %v, want %v", got, err, newest)
	}
}

// TestModel applies random batches with duplicates, revisions and conflicts,
// interleaved with roll-ups, and compares everything with the model.
func TestModel(t *testing.T) {
	t.Parallel()
	dirs := 0
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dirs++
		s, err := Open(background(), Config{Dir: fmt.Sprintf("%s/%d", root, dirs)})
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer s.Close()
		m := model{}
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				batch := rapid.SliceOfN(genRecord, 0, 20).Draw(t, "batch")
				got, err := s.Apply(background(), batch)
				if err != nil {
					t.Fatalf("%v", err)
				}
				for i, r := range batch {
					if want := m.apply(r); got[i] != want {
						t.Fatalf("%+v: %v, want %v", r, got[i], want)
					}
				}
			},
			"recompute": func(t *rapid.T) {
				if _, _, err := s.Recompute(background(), rapid.IntRange(1, 5).Draw(t, "limit")); err != nil {
					t.Fatalf("%v", err)
				}
			},
		})
		for more := true; more; {
			if _, more, err = s.Recompute(background(), 3); err != nil {
				t.Fatalf("%v", err)
			}
		}
		checkRows(t, s, m)
		all := allPoints(t, s, 7)
		checkPoints(t, s, m, all)
		checkReaders(t, s, all)
	})
}

// genRecord draws from few names and instants around the edges of windows, so
// that records meet; some instants lie before 1970 and at the ends of the range.
var genRecord = rapid.Custom(func(t *rapid.T) store.Record {
	base := rapid.SampledFrom([]time.Time{
		noon, time.Unix(0, 0), time.Date(1969, 12, 31, 23, 59, 0, 0, time.UTC), minTime, endTime.Add(-time.Minute),
	}).Draw(t, "base")
	after := rapid.SampledFrom([]time.Duration{
		0, 1, 10*time.Second - 1, 10 * time.Second, 25 * time.Second, 59 * time.Second,
	}).Draw(t, "after")
	return store.Record{
		Series: rapid.SampledFrom([]string{"a", "b", "ä/ö"}).Draw(t, "series"),
		ID:     rapid.SampledFrom([]string{"1", "2", "3", "30", "x yé"}).Draw(t, "id"),
		Time:   base.Add(after),
		Value:  rapid.SampledFrom(values).Draw(t, "value"),
		Rev:    rapid.Int64Range(0, 12).Draw(t, "rev"),
	}
})

// values differ in size, and are such that sums of a few need less than the 106
// bits that the store adds with; beyond those the last bit may differ from the model.
var values = []float64{0, 1, -1, 0.1, 0.2, -0.30000000000000004, 1e13, -1e13, 1.0 / (1 << 40)}

var (
	minTime = time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC)
	endTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)
