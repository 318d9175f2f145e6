package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mdmesh/mdmesh/store"
)

const (
	// maxPending bounds the Apply calls that wait for a commit in this process;
	// further ones wait in front until a place is free or their context ends.
	maxPending = 1024
	// maxGroup bounds the records of one transaction, and so how long other
	// processes wait for it; a single larger call still goes in one.
	maxGroup = 10_000
)

// applyCall is one call of Apply on its way through a group commit.
type applyCall struct {
	records  []store.Record
	done     chan struct{} // closed when outcomes or err is set
	outcomes []store.Outcome
	err      error
}

// Apply implements store.Rows. When ctx ends before the commit began, the call
// withdraws; after that it waits for the outcome (at most about LockTimeout), so
// that an error always means "nothing was written".
func (s *Store) Apply(ctx context.Context, records []store.Record) ([]store.Outcome, error) {
	for i, r := range records {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("sqlite: apply record %d: %w", i, err)
		}
	}
	leave, err := s.enter()
	if err != nil {
		return nil, fmt.Errorf("sqlite: apply: %w", err)
	}
	defer leave()
	if len(records) == 0 {
		return []store.Outcome{}, nil
	}
	select {
	case s.lineUp <- struct{}{}:
		defer func() { <-s.lineUp }()
	case <-ctx.Done():
		return nil, wrap("apply", s.path, ctx.Err())
	}
	call := &applyCall{records: records, done: make(chan struct{})}
	s.mu.Lock()
	s.pending = append(s.pending, call)
	s.mu.Unlock()
	s.await(ctx, call)
	return call.outcomes, wrap("apply", s.path, call.err)
}

// await returns when call is done: by another caller, or by this one, which then
// commits for everybody who lined up.
func (s *Store) await(ctx context.Context, call *applyCall) {
	select {
	case <-call.done:
		return
	case s.writer.turn <- struct{}{}:
		defer func() { <-s.writer.turn }()
	case <-ctx.Done():
		if s.withdraw(call) {
			call.err = ctx.Err()
			return
		}
		<-call.done // already taken into a transaction
		return
	}
	for {
		select {
		case <-call.done:
			return
		default:
		}
		s.commit(s.group())
	}
}

// withdraw takes call out of the line; false means that it is in a transaction.
func (s *Store) withdraw(call *applyCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.pending {
		if c == call {
			s.pending = append(s.pending[:i], s.pending[i+1:]...)
			return true
		}
	}
	return false
}

// group takes the calls of the next transaction off the line, oldest first.
func (s *Store) group() []*applyCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for _, c := range s.pending {
		if size += len(c.records); n > 0 && size > maxGroup {
			break
		}
		n++
	}
	group := s.pending[:n:n]
	s.pending = append([]*applyCall(nil), s.pending[n:]...)
	return group
}

// commit applies a group in one transaction and tells each call its outcome.
func (s *Store) commit(group []*applyCall) {
	a := applier{writer: s.writer}
	err := s.writer.write(func() error { return a.group(group) })
	if err == nil {
		a.remember()
	}
	for _, c := range group {
		if err != nil {
			c.outcomes, c.err = nil, err
		}
		close(c.done)
	}
}

// applier is the state of one applying transaction.
type applier struct {
	*writer
	added map[string]int64       // series ids not known before; remembered after the commit only
	dirty map[windowKey]struct{} // 10s windows this transaction changed rows of
}

func (a *applier) group(group []*applyCall) error {
	a.added = make(map[string]int64)
	a.dirty = make(map[windowKey]struct{})
	for _, c := range group {
		c.outcomes = make([]store.Outcome, len(c.records))
		for i, r := range c.records {
			var err error
			if c.outcomes[i], err = a.record(r); err != nil {
				return err
			}
		}
	}
	return a.mark()
}

// record inserts, replaces or leaves one row.
func (a *applier) record(r store.Record) (store.Outcome, error) {
	series, err := a.seriesID(r.Series)
	if err != nil {
		return 0, fmt.Errorf("series id: %w", err)
	}
	at, value := r.Time.UnixNano(), r.Value+0 // -0 + 0 = 0: SQLite does not keep the sign of a zero
	res, err := a.stmts.addRow.Exec(series, r.ID, at, value, r.Rev)
	if err != nil {
		return 0, fmt.Errorf("insert row: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		a.touch(series, at)
		return store.Inserted, err
	}
	var was struct {
		at    int64
		value float64
		rev   int64
	}
	if err := a.stmts.row.QueryRow(series, r.ID).Scan(&was.at, &was.value, &was.rev); err != nil {
		return 0, fmt.Errorf("read row: %w", err)
	}
	switch {
	case was.at == at && was.value == value:
		if r.Rev > was.rev { // so that a revision between the two cannot win later
			if _, err := a.stmts.setRowRev.Exec(r.Rev, series, r.ID); err != nil {
				return 0, fmt.Errorf("raise rev: %w", err)
			}
		}
		return store.Duplicate, nil
	case r.Rev <= was.rev:
		return store.Conflict, nil
	}
	if _, err := a.stmts.setRow.Exec(at, value, r.Rev, series, r.ID); err != nil {
		return 0, fmt.Errorf("revise row: %w", err)
	}
	a.touch(series, was.at) // the row may have left this window
	a.touch(series, at)
	return store.Revised, nil
}

// seriesID returns the id of a name, a new one where the name is new.
func (a *applier) seriesID(name string) (int64, error) {
	if id, ok := a.series[name]; ok {
		return id, nil
	}
	if id, ok := a.added[name]; ok {
		return id, nil
	}
	var id int64
	err := a.stmts.seriesID.QueryRow(name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = a.stmts.addSeries.QueryRow(name).Scan(&id)
	}
	if err != nil {
		return 0, err
	}
	a.added[name] = id
	return id, nil
}

// remember keeps the ids this transaction learned, now that they are committed.
func (a *applier) remember() {
	if len(a.series)+len(a.added) > maxSeriesCache {
		clear(a.series)
	}
	for name, id := range a.added {
		a.series[name] = id
	}
}

func (a *applier) touch(series, at int64) {
	a.dirty[windowKey{series, floor(at, int64(store.TenSeconds.Length()))}] = struct{}{}
}

// mark writes the touched windows down, all with one new version.
func (a *applier) mark() error {
	if len(a.dirty) == 0 {
		return nil
	}
	var version int64
	if err := a.stmts.nextMark.QueryRow().Scan(&version); err != nil {
		return fmt.Errorf("next mark: %w", err)
	}
	for w := range a.dirty {
		if _, err := a.stmts.mark.Exec(w.series, w.start, version); err != nil {
			return fmt.Errorf("mark window: %w", err)
		}
	}
	return nil
}

// floor returns the greatest multiple of unit that is not above t, also before 1970.
func floor(t, unit int64) int64 {
	r := t % unit
	if r < 0 {
		r += unit
	}
	return t - r
}
