package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// writer is the one writing connection of this process. Everything in it belongs
// to who holds the turn.
type writer struct {
	path        string
	lockTimeout time.Duration
	db          *sql.DB

	turn chan struct{} // holds one token while somebody writes

	conn   *sql.Conn // nil after a failure: the next transaction connects anew
	free   time.Time // until then the file is left to other processes
	stmts  statements
	series map[string]int64 // ids of committed names; bounded by maxSeriesCache
}

// maxSeriesCache bounds the remembered series ids; over it all are forgotten and
// looked up again.
const maxSeriesCache = 100_000

func newWriter(ctx context.Context, path string, lockTimeout time.Duration) (*writer, error) {
	// synchronous(FULL) syncs the log at every commit: what Apply answered is on disk.
	// The pragmas that need a lock follow in connect, which may try them again.
	db, err := sql.Open("sqlite", dsn(path, "synchronous(FULL)", "cache_size(-32000)",
		"journal_size_limit(67108864)", "busy_timeout(20)"))
	if err != nil {
		return nil, wrap("open", path, err)
	}
	db.SetMaxOpenConns(1)
	w := &writer{path: path, lockTimeout: lockTimeout, db: db, turn: make(chan struct{}, 1)}
	if err := w.connect(ctx); err != nil {
		return nil, errors.Join(wrap("open", path, err), db.Close())
	}
	return w, nil
}

// connect opens the connection, brings the schema up to date and prepares the
// statements.
func (w *writer) connect(ctx context.Context) error {
	w.series = make(map[string]int64)
	err := w.retry(ctx, func() (err error) {
		if w.conn, err = w.db.Conn(ctx); err != nil {
			return err
		}
		// SQLite asks no busy handler for the change to WAL, hence the retry around it.
		if _, err = w.conn.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
			w.drop()
		}
		return err
	})
	if err != nil {
		return err
	}
	err = w.transaction(ctx, func() error { return migrate(ctx, w.conn) })
	if err == nil {
		err = w.stmts.prepare(ctx, w.conn)
	}
	if err != nil {
		w.drop()
	}
	return err
}

// drop gives the connection up; SQLite rolls back what was open on it.
func (w *writer) drop() {
	if w.conn == nil {
		return
	}
	w.stmts.close()
	// Raw with ErrBadConn makes database/sql close the connection instead of keeping it.
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = w.conn.Close()
	w.conn = nil
}

// write runs fn in one durable transaction. The caller holds the turn. It does
// not end early with the caller's context, because others may wait for its
// outcome; lockTimeout bounds it.
func (w *writer) write(fn func() error) error {
	ctx := context.Background()
	if w.conn == nil {
		if err := w.connect(ctx); err != nil {
			return err
		}
	}
	if d := time.Until(w.free); d > 0 {
		_ = pause(ctx, d)
	}
	start := time.Now()
	err := w.transaction(ctx, fn)
	w.free = courtesy(time.Since(start))
	if err != nil && !busy(err) {
		w.drop()
	}
	return err
}

// courtesy returns until when a process that wrote for took leaves the file to
// others. Without it, one that writes long transactions back to back would leave
// gaps too short to be met by those who wait (see retry).
func courtesy(took time.Duration) time.Time {
	if took < 2*time.Millisecond {
		return time.Time{}
	}
	return time.Now().Add(min(took/16, 2*time.Millisecond))
}

func (w *writer) transaction(ctx context.Context, fn func() error) error {
	err := w.retry(ctx, func() error {
		_, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err = fn(); err == nil {
		if _, err = w.conn.ExecContext(ctx, "COMMIT"); err != nil {
			err = fmt.Errorf("commit: %w", err)
		}
	}
	if err != nil {
		// SQLite may have rolled back by itself; then this one fails and says nothing new.
		_, _ = w.conn.ExecContext(context.Background(), "ROLLBACK")
	}
	return err
}

// retry calls fn until it is not refused because of another process's lock. It
// asks again soon and at random times, because SQLite keeps no queue: the longer
// the pauses of its own busy handler grow, the less often a waiting process meets
// the gap between two transactions of a busy one.
func (w *writer) retry(ctx context.Context, fn func() error) error {
	end := time.Now().Add(w.lockTimeout)
	for {
		err := fn()
		if err == nil || !busy(err) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: locked by another process for %v: %w", store.ErrUnavailable, w.lockTimeout, err)
		}
		if err := pause(ctx, time.Duration(200+rand.IntN(1000))*time.Microsecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes the connection; the caller made sure that nobody holds the turn.
func (w *writer) close() error {
	var err error
	if w.conn != nil {
		w.stmts.close()
		err = w.conn.Close()
		w.conn = nil
	}
	return errors.Join(err, w.db.Close())
}
