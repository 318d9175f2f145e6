package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

const pointColumns = `s.name, p.seconds, p.start, p.count, p.sum, p.sum_low, p.min, p.max, p.last, p.rev`

// The queries join in the order they are written (CROSS JOIN), so that they stay
// as fast as their indexes whatever the sizes of the tables.
const (
	sinceQuery = `SELECT ` + pointColumns + `
		FROM points p INDEXED BY points_by_rev CROSS JOIN series s ON s.id = p.series
		WHERE p.rev > ? ORDER BY p.rev LIMIT ?`

	// One seek per series and window: the newest point is the end of a range of the key.
	newestQuery = `WITH w (seconds) AS (VALUES (10), (60), (3600), (86400))
		SELECT ` + pointColumns + `
		FROM series s CROSS JOIN w CROSS JOIN points p
			ON p.series = s.id AND p.seconds = w.seconds AND p.start = (
				SELECT n.start FROM points n WHERE n.series = s.id AND n.seconds = w.seconds AND n.count > 0
				ORDER BY n.start DESC LIMIT 1)
		ORDER BY s.name, w.seconds`

	pointsQuery = `SELECT ` + pointColumns + `
		FROM series s CROSS JOIN points p ON p.series = s.id
		WHERE s.name = ? AND p.seconds = ? AND p.start >= ? AND p.start < ? AND p.count > 0
		ORDER BY p.start DESC LIMIT ?`
)

// Since implements store.Reader.
func (s *Store) Since(ctx context.Context, rev int64, limit int) ([]store.Point, error) {
	if limit < 1 {
		return nil, fmt.Errorf("sqlite: since: limit %d: give 1 or more", limit)
	}
	return s.query(ctx, "since", sinceQuery, rev, limit)
}

// Newest implements store.Reader.
func (s *Store) Newest(ctx context.Context) ([]store.Point, error) {
	return s.query(ctx, "newest", newestQuery)
}

// Points implements store.Reader.
func (s *Store) Points(ctx context.Context, q store.Query) ([]store.Point, error) {
	if q.Window.Length() == 0 {
		return nil, fmt.Errorf("sqlite: points: window %q: give one of %v", q.Window, store.Windows)
	}
	limit := q.Limit
	if limit < 0 {
		return nil, fmt.Errorf("sqlite: points: limit %d: give 0 or more", limit)
	}
	if limit == 0 {
		limit = -1 // SQLite's word for "all"
	}
	points, err := s.query(ctx, "points", pointsQuery,
		q.Series, seconds(q.Window), bound(q.From, math.MinInt64), bound(q.To, math.MaxInt64), limit)
	slices.Reverse(points)
	return points, err
}

// bound turns an end of a query into nanoseconds: open where it is zero, and the
// nearest representable instant where it lies outside.
func bound(t time.Time, open int64) int64 {
	switch {
	case t.IsZero():
		return open
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func (s *Store) query(ctx context.Context, op, query string, args ...any) ([]store.Point, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", op, err)
	}
	defer leave()
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrap(op, s.path, err)
	}
	defer rows.Close()
	points := []store.Point{}
	for rows.Next() {
		p, err := scanPoint(rows)
		if err != nil {
			return nil, wrap(op, s.path, err)
		}
		points = append(points, p)
	}
	if err := rows.Err(); err != nil {
		return nil, wrap(op, s.path, err)
	}
	return points, nil
}

func scanPoint(rows *sql.Rows) (store.Point, error) {
	var (
		name               string
		length, start, rev int64
		a                  aggregate
	)
	err := rows.Scan(&name, &length, &start, &a.count, &a.sum, &a.low, &a.min, &a.max, &a.last, &rev)
	if err != nil {
		return store.Point{}, err
	}
	for _, w := range store.Windows {
		if seconds(w) == length {
			return newPoint(name, w, start, a, rev), nil
		}
	}
	return store.Point{}, fmt.Errorf("%w: a point over %d s", ErrSchema, length)
}

func newPoint(series string, w store.Window, start int64, a aggregate, rev int64) store.Point {
	return store.Point{
		Series: series, Window: w, Start: time.Unix(0, start).UTC(),
		Count: a.count, Sum: a.sum, Min: a.min, Max: a.max, Mean: a.mean(), Last: a.last, Rev: rev,
	}
}
