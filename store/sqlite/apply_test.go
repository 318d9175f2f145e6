package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// TestOutcomes goes through what can become of one record after another.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for i, step := range []struct {
		record store.Record
		want   store.Outcome
	}{
		{rec("s", "1", 0, 1, 0), store.Inserted},
		{rec("s", "1", 0, 1, 0), store.Duplicate},
		{rec("s", "1", 0, 2, 0), store.Conflict},           // other value, no higher rev
		{rec("s", "1", time.Second, 1, 0), store.Conflict}, // other time
		{rec("t", "1", 0, 2, 0), store.Inserted},           // ids are of their series
		{rec("s", "1", 0, 2, 1), store.Revised},
		{rec("s", "1", 0, 2, 1), store.Duplicate},
		{rec("s", "1", 0, 1, 0), store.Conflict},  // was there, but a higher rev replaced it
		{rec("s", "1", 0, 3, 0), store.Conflict},  // never stored
		{rec("s", "1", 0, 2, 5), store.Duplicate}, // keeps rev 5 ...
		{rec("s", "1", 0, 4, 3), store.Conflict},  // ... so that 3 comes too late
		{rec("s", "1", 0, 4, 6), store.Revised},
		{rec("s", "1", 0, 2, 5), store.Conflict},
		{rec("s", "zero", 0, math.Copysign(0, -1), 0), store.Inserted},
		{rec("s", "zero", 0, 0, 0), store.Duplicate},
	} {
		if got := apply(t, s, step.record); got[0] != step.want {
			t.Errorf("step %d %+v: %v, want %v", i, step.record, got[0], step.want)
		}
	}
}

// TestMovedRow moves the only row of a window: both windows change, and the old
// one is taken back.
func TestMovedRow(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	apply(t, s, rec("s", "1", 0, 7, 0))
	rollUp(t, s, 10)
	apply(t, s, rec("s", "1", 20*time.Second, 7, 1))
	if n := dirtyWindows(t, s); n != 2 {
		t.Errorf("%d windows marked, want 2", n)
	}
	points := rollUp(t, s, 10)
	if len(points) != 2 || points[0].Count != 0 || !points[0].Start.Equal(noon) || points[1].Count != 1 {
		t.Errorf("points %+v, want the old window empty and the new one; the minute did not change", points)
	}
	got, err := s.Points(t.Context(), store.Query{Series: "s", Window: store.TenSeconds})
	if err != nil || len(got) != 1 || !got[0].Start.Equal(noon.Add(20*time.Second)) {
		t.Errorf("%+v, %v: want the new window only", got, err)
	}
	if n := dirtyWindows(t, s); n != 0 {
		t.Errorf("%d windows marked, want none", n)
	}
}

// TestBatchIsAllOrNothing refuses a batch for its last record.
func TestBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	_, err := s.Apply(t.Context(), []store.Record{rec("s", "1", 0, 1, 0), rec("s", "2", 0, math.NaN(), 0)})
	if !errors.Is(err, store.ErrRecord) {
		t.Fatalf("%v, want %v", err, store.ErrRecord)
	}
	checkRows(t, s, model{})
}

// TestGroupCommit applies from many goroutines at once, with records in common.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	const callers, each = 50, 20
	var mu sync.Mutex
	inserted := 0
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for i := range each {
				out, err := s.Apply(context.Background(), []store.Record{
					rec("own", fmt.Sprintf("%d-%d", c, i), time.Duration(i)*time.Second, 1, 0),
					rec("common", fmt.Sprint(i), time.Duration(i)*time.Second, 1, 0),
				})
				if err != nil || out[0] != store.Inserted {
					t.Errorf("%v, %v", out, err)
					return
				}
				if out[1] == store.Inserted {
					mu.Lock()
					inserted++
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if inserted != each {
		t.Errorf("%d common records inserted, want each of the %d once", inserted, each)
	}
	for _, p := range rollUp(t, s, 100) {
		if want := map[string]int64{"own": callers * each, "common": each}[p.Series]; p.Window == store.Day && p.Count != want {
			t.Errorf("day of %s counts %d, want %d", p.Series, p.Count, want)
		}
	}
}

// TestWithdraw ends the context of a call that waits behind another one: it
// returns at once and is never written.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	s.writer.turn <- struct{}{} // somebody writes
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Apply(ctx, []store.Record{rec("s", "1", 0, 1, 0)})
		done <- err
	}()
	for lined := false; !lined; runtime.Gosched() {
		s.mu.Lock()
		lined = len(s.pending) == 1
		s.mu.Unlock()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	<-s.writer.turn
	apply(t, s, rec("s", "2", 0, 1, 0))
	checkRows(t, s, modelOf([][]store.Record{{rec("s", "2", 0, 1, 0)}}))
}

// TestGroupIsBounded lines up more than one transaction may take.
func TestGroupIsBounded(t *testing.T) {
	t.Parallel()
	s := &Store{}
	for _, n := range []int{maxGroup + 1, maxGroup - 1, 1, 1} {
		s.pending = append(s.pending, &applyCall{records: make([]store.Record, n)})
	}
	var sizes []int
	for len(s.pending) > 0 {
		sizes = append(sizes, len(s.group()))
	}
	if want := []int{1, 2, 1}; !slices.Equal(sizes, want) {
		t.Errorf("groups of %v calls, want %v", sizes, want)
	}
}

// TestClosed wants a clear error from every method, and none from a second Close.
func TestClosed(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err1 := s.Apply(t.Context(), []store.Record{rec("s", "1", 0, 1, 0)})
	_, _, err2 := s.Recompute(t.Context(), 1)
	_, err3 := s.Newest(t.Context())
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want %v", err, ErrClosed)
		}
	}
}
