package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// foreign opens the file without us, as another program would.
func foreign(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, FileName)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// TestLocked lets another program hold the write lock for longer than we wait.
func TestLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir, LockTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	apply(t, s, rec("s", "1", 0, 1, 0))
	other, err := foreign(t, dir).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mustExec(t, other, "BEGIN IMMEDIATE")

	_, err = s.Apply(t.Context(), []store.Record{rec("s", "2", 0, 2, 0)})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("apply: %v, want %v", err, store.ErrUnavailable)
	}
	if _, _, err := s.Recompute(t.Context(), 10); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("recompute: %v, want %v", err, store.ErrUnavailable)
	}
	if _, err := s.Newest(t.Context()); err != nil {
		t.Errorf("reading waits for no writer: %v", err)
	}
	mustExec(t, other, "ROLLBACK")
	apply(t, s, rec("s", "2", 0, 2, 0))
	rollUp(t, s, 10)
	checkRows(t, s, modelOf([][]store.Record{{rec("s", "1", 0, 1, 0), rec("s", "2", 0, 2, 0)}}))
}

// TestFull fills a file system with a bound for one process, and then lifts it.
func TestFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, "full", dir, 0).finish(t)
	s := open(t, dir)
	rollUp(t, s, 100)
	if n := len(allPoints(t, s, 500)); n == 0 {
		t.Error("no points")
	}
}

// roleFull may write files of 512 KiB only, until it has met that bound.
func roleFull(dir string, _ uint64) error {
	s, err := Open(background(), Config{Dir: dir})
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 512 << 10, Max: before.Max}); err != nil {
		return err
	}
	m, batch := model{}, []store.Record(nil)
	for i := 0; err == nil; i++ {
		if i == 1000 {
			return errors.New("the bound was never met")
		}
		if batch = newBatch(i*100, 100); i%10 == 9 {
			_, _, err = s.Recompute(background(), 50)
			continue
		}
		if _, err = s.Apply(background(), batch); err == nil {
			for _, r := range batch {
				m.apply(r)
			}
		}
	}
	if !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("full: %w, want %w", err, store.ErrUnavailable)
	}
	checkRows(panicker{}, s, m) // all that was acknowledged, nothing of what was not
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if _, err := s.Apply(background(), batch); err != nil {
		return fmt.Errorf("after room was made: %w", err)
	}
	for _, r := range batch {
		m.apply(r)
	}
	checkRows(panicker{}, s, m)
	return s.Close()
}

type panicker struct{}

func (panicker) Helper()                           {}
func (panicker) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// TestOpenRefuses gives Open what it must not touch.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(t *testing.T, dir string)
		want error
		text string
	}{
		"a file of garbage": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, FileName), []byte(strings.Repeat("garbage ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt, "move it away"},
		"another program's file": {func(t *testing.T, dir string) {
			mustExec(t, foreign(t, dir), "CREATE TABLE theirs (x)")
		}, ErrSchema, "another program"},
		"a newer schema": {func(t *testing.T, dir string) {
			open(t, dir)
			mustExec(t, foreign(t, dir), "PRAGMA user_version = 1000")
		}, ErrSchema, "update mdmesh"},
		"a folder in the file's place": {func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, FileName), 0o700); err != nil {
				t.Fatal(err)
			}
		}, store.ErrUnavailable, "unable to open"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test.make(t, dir)
			s, err := Open(t.Context(), Config{Dir: dir})
			if err == nil {
				_ = s.Close()
			}
			if unusable := test.want != store.ErrUnavailable; errors.Is(err, store.ErrUnusable) != unusable || errors.Is(err, store.ErrUnavailable) == unusable {
				t.Errorf("%v: the class is wrong", err)
			}
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v, want %v with %q", err, test.want, test.text)
			}
		})
	}
	if _, err := Open(t.Context(), Config{}); err == nil {
		t.Error("no folder: no error")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: filepath.Join(file, "dir")}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("folder below a file: %v, want %v", err, store.ErrUnavailable)
	}
}

// TestDamage overwrites pages of the file while nobody has it open.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	apply(t, s, newBatch(0, 2000)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8192; i < len(content); i++ {
		content[i] = 0xa5
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = Open(t.Context(), Config{Dir: dir})
	if err == nil {
		defer s.Close()
		_, err = s.Apply(t.Context(), newBatch(0, 2000))
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v, want %v", err, ErrCorrupt)
	}
}

// TestOddPath opens a store below names that mean something in a URL.
func TestOddPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a?b=c#d %41 ä")
	apply(t, open(t, dir), rec("s", "1", 0, 1, 0))
	if _, err := os.Stat(filepath.Join(dir, FileName)); err != nil {
		t.Error(err)
	}
}
