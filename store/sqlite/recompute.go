package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// maxScan bounds the rows read in one transaction (after its first window), so
// that a window with very many rows does not hold the write lock for all others.
const maxScan = 100_000

// Recompute implements store.Rollups. It takes the write lock only when something
// is dirty. A limit below 1 is an error.
func (s *Store) Recompute(ctx context.Context, limit int) ([]store.Point, bool, error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("sqlite: recompute: limit %d: give 1 or more", limit)
	}
	leave, err := s.enter()
	if err != nil {
		return nil, false, fmt.Errorf("sqlite: recompute: %w", err)
	}
	defer leave()
	var dirty bool
	if err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM dirty)`).Scan(&dirty); err != nil || !dirty {
		return nil, false, wrap("recompute", s.path, err)
	}
	select {
	case s.writer.turn <- struct{}{}:
		defer func() { <-s.writer.turn }()
	case <-ctx.Done():
		return nil, false, wrap("recompute", s.path, ctx.Err())
	}
	r := recomputer{writer: s.writer}
	if err := s.writer.write(func() error { return r.batch(limit) }); err != nil {
		return nil, false, wrap("recompute", s.path, err)
	}
	return r.points, r.more, nil
}

// windowKey is a window of one series, of a length that the context tells.
type windowKey struct{ series, start int64 }

// recomputer is the state of one roll-up transaction.
type recomputer struct {
	*writer
	rev     int64
	names   map[int64]string
	changed map[windowKey]struct{} // windows of the level above that changed windows lie in
	points  []store.Point
	more    bool
}

type dirtyMark struct {
	windowKey
	version int64
}

// batch brings the oldest dirty windows up to date, shortest level first; each
// level hands the next one the windows that it changed something in.
func (r *recomputer) batch(limit int) error {
	r.names = make(map[int64]string)
	marks, err := r.dirtyMarks(limit + 1)
	if err != nil {
		return fmt.Errorf("read marks: %w", err)
	}
	if err := r.stmts.lastRev.QueryRow().Scan(&r.rev); err != nil {
		return fmt.Errorf("read rev: %w", err)
	}
	before := r.rev
	if r.more = len(marks) > limit; r.more {
		marks = marks[:limit]
	}
	if err := r.fromRows(marks); err != nil {
		return err
	}
	for i, window := range store.Windows[1:] {
		if err := r.fromPoints(window, store.Windows[i]); err != nil {
			return err
		}
	}
	if r.rev == before {
		return nil
	}
	if _, err := r.stmts.setLastRev.Exec(r.rev); err != nil {
		return fmt.Errorf("write rev: %w", err)
	}
	return nil
}

func (r *recomputer) dirtyMarks(limit int) (marks []dirtyMark, err error) {
	err = each(r.stmts.marks, func(rows *sql.Rows) error {
		var m dirtyMark
		err := rows.Scan(&m.series, &m.start, &m.version)
		marks = append(marks, m)
		return err
	}, limit)
	return marks, err
}

// fromRows computes the 10s windows and clears their marks.
func (r *recomputer) fromRows(marks []dirtyMark) error {
	r.changed = make(map[windowKey]struct{})
	var scanned int64
	for i, m := range marks {
		if scanned > maxScan {
			r.more = true
			marks = marks[:i]
			break
		}
		var sum aggregate
		err := each(r.stmts.values, func(rows *sql.Rows) error {
			var v float64
			err := rows.Scan(&v)
			sum.add(v)
			return err
		}, m.series, m.start, m.start+int64(store.TenSeconds.Length()))
		if err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		scanned += sum.count
		if err := r.put(m.windowKey, store.TenSeconds, sum); err != nil {
			return err
		}
	}
	for _, m := range marks {
		// The version cannot have changed under the write lock; the condition keeps the
		// rule where it is written down, for engines and readers without such a lock.
		if _, err := r.stmts.clearMark.Exec(m.series, m.start, m.version); err != nil {
			return fmt.Errorf("clear mark: %w", err)
		}
	}
	return nil
}

// fromPoints computes the windows that the level below changed something in.
func (r *recomputer) fromPoints(window, below store.Window) error {
	length := int64(window.Length())
	todo := make(map[windowKey]struct{})
	for k := range r.changed {
		todo[windowKey{k.series, floor(k.start, length)}] = struct{}{}
	}
	clear(r.changed)
	for _, k := range slices.SortedFunc(maps.Keys(todo), compareKeys) {
		var sum aggregate
		err := each(r.stmts.shorter, func(rows *sql.Rows) error {
			part, err := scanAggregate(rows)
			sum.merge(part)
			return err
		}, k.series, seconds(below), k.start, k.start+length)
		if err != nil {
			return fmt.Errorf("read points: %w", err)
		}
		if err := r.put(k, window, sum); err != nil {
			return err
		}
	}
	return nil
}

// put writes a point with the next rev, unless it is there with the same content
// already. A window that lost its last row keeps an empty point: readers that
// follow the rev learn from it that the old one is gone.
func (r *recomputer) put(k windowKey, window store.Window, sum aggregate) error {
	sum.done()
	length, rev := seconds(window), r.rev+1
	var res sql.Result
	var err error
	if sum.count == 0 {
		res, err = r.stmts.emptyPoint.Exec(rev, k.series, length, k.start)
	} else {
		res, err = r.stmts.putPoint.Exec(k.series, length, k.start,
			sum.count, sum.sum, sum.low, sum.min, sum.max, sum.last, rev)
	}
	if err != nil {
		return fmt.Errorf("write point: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	r.rev = rev
	name, err := r.name(k.series)
	if err != nil {
		return err
	}
	r.changed[k] = struct{}{}
	r.points = append(r.points, newPoint(name, window, k.start, sum, rev))
	return nil
}

func (r *recomputer) name(series int64) (string, error) {
	if name, ok := r.names[series]; ok {
		return name, nil
	}
	var name string
	if err := r.stmts.seriesName.QueryRow(series).Scan(&name); err != nil {
		return "", fmt.Errorf("read series name: %w", err)
	}
	r.names[series] = name
	return name, nil
}

// each runs a prepared query and calls fn for each row of the answer.
func each(stmt *sql.Stmt, fn func(*sql.Rows) error, args ...any) error {
	rows, err := stmt.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanAggregate(row interface{ Scan(...any) error }) (a aggregate, err error) {
	err = row.Scan(&a.count, &a.sum, &a.low, &a.min, &a.max, &a.last)
	return a, err
}

func compareKeys(a, b windowKey) int {
	return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.start, b.start))
}

func seconds(w store.Window) int64 { return int64(w.Length() / time.Second) }
