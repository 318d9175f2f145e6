// Package sqlite keeps rows and roll-ups in one SQLite file that several
// processes write at once: the embedded default of the pipeline.
//
// The one invariant: whatever a transaction leaves behind, each point equals what
// its rows say or the 10s window it lacks is in the table dirty. Rows and their
// marks are written together (apply.go); points, rev counter and the removal of
// the marks too (recompute.go); both hold SQLite's write lock from BEGIN
// IMMEDIATE on, so no other process is ever between the reading and the writing.
//
// How it works: each process has one writing connection, guarded by a turn.
// Callers of Apply line up; whoever gets the turn commits for all who came
// meanwhile (group commit), so one fsync serves many. Reads have their own
// connections and never wait for writers (WAL). There are no goroutines: a call
// works, or waits for another call that works for it.
//
// Start reading at Open, then Apply and Recompute. docs/DATA.md has the tables.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/mdmesh/mdmesh/store"
)

// FileName is the name of the file inside Config.Dir.
const FileName = "mesh.db"

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("store closed")

// Config says where the store is. The zero value of every field but Dir is good.
type Config struct {
	// Dir is the folder of the file; it is made where it is missing. It must be on
	// a local disk: SQLite's shared memory does not cross machines.
	Dir string
	// LockTimeout bounds how long a call waits for other processes' transactions
	// before it fails with store.ErrUnavailable. Default 5 s.
	LockTimeout time.Duration
	// Readers bounds the reading connections. Default 4.
	Readers int
}

// Store is one open file. Its methods may be called from any goroutine.
type Store struct {
	path   string
	read   *sql.DB
	writer *writer

	lineUp chan struct{} // one place per waiting Apply: the bound of pending

	mu      sync.Mutex // guards the following
	pending []*applyCall
	closed  bool

	calls sync.WaitGroup // calls under way; Close waits for them
}

var _ store.Store = (*Store)(nil)

// Open opens DIR/mesh.db, makes it where it is missing, and brings its tables up
// to date; several processes may do so at once. The caller closes the store.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("sqlite: Config.Dir is empty: name a folder")
	}
	if cfg.LockTimeout <= 0 {
		cfg.LockTimeout = 5 * time.Second
	}
	if cfg.Readers <= 0 {
		cfg.Readers = 4
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w: %w", cfg.Dir, store.ErrUnavailable, err)
	}
	path := filepath.Join(dir, FileName)
	w, err := newWriter(ctx, path, cfg.LockTimeout)
	if err != nil {
		return nil, err
	}
	read, err := sql.Open("sqlite", dsn(path,
		"query_only(1)", "cache_size(-8000)", fmt.Sprintf("busy_timeout(%d)", cfg.LockTimeout.Milliseconds())))
	if err != nil {
		return nil, errors.Join(wrap("open", path, err), w.close())
	}
	read.SetMaxOpenConns(cfg.Readers)
	read.SetMaxIdleConns(cfg.Readers)
	return &Store{path: path, read: read, writer: w, lineUp: make(chan struct{}, maxPending)}, nil
}

// dsn names the file to the driver. A file: URL lets any path through, also one
// with a question mark.
func dsn(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: path}
	if runtime.GOOS == "windows" {
		u.Path = "/" + filepath.ToSlash(path)
	}
	u.RawQuery = url.Values{"_pragma": pragmas}.Encode()
	return u.String()
}

// Path returns the absolute path of the file.
func (s *Store) Path() string { return s.path }

// Close waits for the calls under way and closes the file. A second Close is harmless.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	if again {
		return nil
	}
	if err := errors.Join(s.read.Close(), s.writer.close()); err != nil {
		return wrap("close", s.path, err)
	}
	return nil
}

// enter counts a call as under way until leave is called.
func (s *Store) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.calls.Add(1)
	return s.calls.Done, nil
}
