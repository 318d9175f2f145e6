package mem

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// Recompute implements store.Rollups. Limit counts windows of ten seconds; the
// longer windows around each are brought up to date with it. A window that lost
// its last row gets a point with count 0.
func (s *Store) Recompute(ctx context.Context, limit int) (points []store.Point, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx, "recompute"); err != nil {
		return nil, false, err
	}
	take := min(max(limit, 0), len(s.dirty))
	changed := make(map[bucket]bool)
	for _, b := range s.dirty[:take] {
		points = append(points, s.writeLocked(s.rollRowsLocked(b)))
		changed[b] = true
		delete(s.marked, b)
	}
	s.dirty = s.dirty[take:]
	for i, window := range store.Windows[1:] {
		longer := make(map[bucket]bool)
		for b := range changed {
			longer[bucket{b.series, startOf(window, time.Unix(b.start, 0))}] = true
		}
		for b := range longer {
			points = append(points, s.writeLocked(s.rollPointsLocked(b, window, store.Windows[i])))
		}
		changed = longer
	}
	return points, len(s.dirty) > 0, nil
}

// rollRowsLocked computes a window of ten seconds from its rows.
func (s *Store) rollRowsLocked(b bucket) store.Point {
	d := s.series[b.series]
	rows := make([]store.Record, 0, len(d.tens[b.start]))
	for id := range d.tens[b.start] {
		rows = append(rows, d.rows[id])
	}
	slices.SortFunc(rows, func(a, b store.Record) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	p := emptyPoint(b, store.TenSeconds)
	for _, r := range rows {
		merge(&p, store.Point{Count: 1, Sum: r.Value, Min: r.Value, Max: r.Value, Last: r.Value})
	}
	return finish(p)
}

// rollPointsLocked computes a longer window from the shorter ones in it.
func (s *Store) rollPointsLocked(b bucket, window, from store.Window) store.Point {
	p := emptyPoint(b, window)
	step := windowSeconds[from]
	for start := b.start; start < b.start+windowSeconds[window]; start += step {
		if part := s.series[b.series].points[from][start]; part.Count > 0 {
			merge(&p, part)
		}
	}
	return finish(p)
}

func emptyPoint(b bucket, w store.Window) store.Point {
	return store.Point{
		Series: b.series, Window: w, Start: time.Unix(b.start, 0).UTC(),
		Min: math.Inf(1), Max: math.Inf(-1),
	}
}

// merge adds a later part to p.
func merge(p *store.Point, part store.Point) {
	p.Count += part.Count
	p.Sum = max(-math.MaxFloat64, min(math.MaxFloat64, p.Sum+part.Sum))
	p.Min, p.Max = min(p.Min, part.Min), max(p.Max, part.Max)
	p.Last = part.Last
}

func finish(p store.Point) store.Point {
	if p.Count == 0 {
		p.Min, p.Max = 0, 0
		return p
	}
	p.Mean = p.Sum / float64(p.Count)
	return p
}
