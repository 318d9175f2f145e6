package sqlite

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/store"
)

// TestMain lets the test binary be a process of its own, too: see process_test.go.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(runRole())
	}
	goleak.VerifyTestMain(m)
}

// open opens a store in dir and closes it when the test ends.
func open(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), Config{Dir: dir, LockTimeout: 30 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// apply applies the records, which must succeed.
func apply(tb testing.TB, s *Store, records ...store.Record) []store.Outcome {
	tb.Helper()
	outcomes, err := s.Apply(tb.Context(), records)
	if err != nil {
		tb.Fatal(err)
	}
	return outcomes
}

// rollUp recomputes until nothing is dirty and returns the points written.
func rollUp(tb testing.TB, s *Store, limit int) (points []store.Point) {
	tb.Helper()
	for more := true; more; {
		var batch []store.Point
		var err error
		if batch, more, err = s.Recompute(tb.Context(), limit); err != nil {
			tb.Fatal(err)
		}
		points = append(points, batch...)
	}
	return points
}

// dirtyWindows returns how many windows are marked.
func dirtyWindows(tb testing.TB, s *Store) (n int) {
	tb.Helper()
	if err := s.read.QueryRow(`SELECT count(*) FROM dirty`).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func rec(series, id string, after time.Duration, value float64, rev int64) store.Record {
	return store.Record{Series: series, ID: id, Time: noon.Add(after), Value: value, Rev: rev}
}

// background is for helpers that serve testing.T and rapid.T alike.
func background() context.Context { return context.Background() }
