package mem

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// Store is a store.Store in the memory of one process. It keeps everything it is
// given, so it has no bound: it is for tests and small trials. Safe for
// concurrent use; it never blocks for long and its errors come from [Store.Fail]
// and [Store.Close] only.
type Store struct {
	mu sync.Mutex
	// guards the following
	series map[string]*seriesData
	dirty  []bucket
	marked map[bucket]bool
	rev    int64
	fail   error
}

var _ store.Store = (*Store)(nil)

type seriesData struct {
	rows   map[string]store.Record
	tens   map[int64]map[string]bool // ids of the rows in each window of ten seconds
	points map[store.Window]map[int64]store.Point
}

// bucket names one window of ten seconds.
type bucket struct {
	series string
	start  int64
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{series: make(map[string]*seriesData), marked: make(map[bucket]bool)}
}

// Fail makes every later call return err, wrapped with store.ErrUnavailable; nil
// heals it.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Close makes every later call fail. It may be called more than once.
func (s *Store) Close() error {
	s.Fail(fmt.Errorf("store is closed"))
	return nil
}

func (s *Store) readyLocked(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mem: %s: %w", op, err)
	}
	if s.fail != nil {
		return fmt.Errorf("mem: %s: %w: %w", op, store.ErrUnavailable, s.fail)
	}
	return nil
}

func (s *Store) seriesLocked(name string) *seriesData {
	d := s.series[name]
	if d == nil {
		d = &seriesData{
			rows:   make(map[string]store.Record),
			tens:   make(map[int64]map[string]bool),
			points: make(map[store.Window]map[int64]store.Point),
		}
		for _, w := range store.Windows {
			d.points[w] = make(map[int64]store.Point)
		}
		s.series[name] = d
	}
	return d
}

// Apply implements store.Rows.
func (s *Store) Apply(ctx context.Context, records []store.Record) ([]store.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx, "apply"); err != nil {
		return nil, err
	}
	outcomes := make([]store.Outcome, 0, len(records))
	for _, r := range records {
		outcomes = append(outcomes, s.applyLocked(r))
	}
	return outcomes, nil
}

func (s *Store) applyLocked(r store.Record) store.Outcome {
	r.Time = r.Time.UTC()
	d := s.seriesLocked(r.Series)
	old, known := d.rows[r.ID]
	outcome := store.Inserted
	switch {
	case !known:
	case old.Time.Equal(r.Time) && old.Value == r.Value:
		return store.Duplicate
	case r.Rev <= old.Rev:
		return store.Conflict
	default:
		outcome = store.Revised
		start := startOf(store.TenSeconds, old.Time)
		delete(d.tens[start], r.ID)
		s.markLocked(bucket{r.Series, start})
	}
	start := startOf(store.TenSeconds, r.Time)
	if d.tens[start] == nil {
		d.tens[start] = make(map[string]bool)
	}
	d.rows[r.ID] = r
	d.tens[start][r.ID] = true
	s.markLocked(bucket{r.Series, start})
	return outcome
}

func (s *Store) markLocked(b bucket) {
	if !s.marked[b] {
		s.marked[b] = true
		s.dirty = append(s.dirty, b)
	}
}

// PutPoints stores points as they are, except that each gets a new rev; it
// returns them with it. It is how a test makes roll-ups without rows.
func (s *Store) PutPoints(points ...store.Point) []store.Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := make([]store.Point, 0, len(points))
	for _, p := range points {
		written = append(written, s.writeLocked(p))
	}
	return written
}

func (s *Store) writeLocked(p store.Point) store.Point {
	s.rev++
	p.Rev, p.Start = s.rev, p.Start.UTC()
	s.seriesLocked(p.Series).points[p.Window][p.Start.Unix()] = p
	return p
}

// Since implements store.Reader.
func (s *Store) Since(ctx context.Context, rev int64, limit int) ([]store.Point, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx, "since"); err != nil {
		return nil, err
	}
	var points []store.Point
	for _, d := range s.series {
		for _, byStart := range d.points {
			for _, p := range byStart {
				if p.Rev > rev {
					points = append(points, p)
				}
			}
		}
	}
	slices.SortFunc(points, func(a, b store.Point) int { return cmp.Compare(a.Rev, b.Rev) })
	return points[:min(max(limit, 0), len(points))], nil
}

// Newest implements store.Reader.
func (s *Store) Newest(ctx context.Context) ([]store.Point, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx, "newest"); err != nil {
		return nil, err
	}
	var points []store.Point
	for _, d := range s.series {
		for _, byStart := range d.points {
			var newest store.Point
			for _, p := range byStart {
				if newest.Rev == 0 || p.Start.After(newest.Start) {
					newest = p
				}
			}
			if newest.Rev > 0 {
				points = append(points, newest)
			}
		}
	}
	slices.SortFunc(points, func(a, b store.Point) int {
		return cmp.Or(strings.Compare(a.Series, b.Series),
			cmp.Compare(slices.Index(store.Windows, a.Window), slices.Index(store.Windows, b.Window)))
	})
	return points, nil
}

// Points implements store.Reader. A limit of 0 keeps all.
func (s *Store) Points(ctx context.Context, q store.Query) ([]store.Point, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(ctx, "points"); err != nil {
		return nil, err
	}
	d := s.series[q.Series]
	if d == nil {
		return nil, nil
	}
	var points []store.Point
	for _, p := range d.points[q.Window] {
		if (q.From.IsZero() || !p.Start.Before(q.From)) && (q.To.IsZero() || p.Start.Before(q.To)) {
			points = append(points, p)
		}
	}
	slices.SortFunc(points, func(a, b store.Point) int { return a.Start.Compare(b.Start) })
	if q.Limit > 0 && len(points) > q.Limit {
		points = points[len(points)-q.Limit:]
	}
	return points, nil
}

// startOf aligns t to the window in UTC, as Unix seconds.
func startOf(w store.Window, t time.Time) int64 {
	seconds, length := t.Unix(), windowSeconds[w]
	return seconds - ((seconds%length)+length)%length
}

var windowSeconds = map[store.Window]int64{
	store.TenSeconds: 10, store.Minute: 60, store.Hour: 3600, store.Day: 86400,
}
