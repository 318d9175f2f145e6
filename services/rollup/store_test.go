package rollup

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/sqlite"
)

// events hands the days of one service to the test.
type events struct {
	days chan event
	done <-chan struct{}
}

func (e events) Publish(_ context.Context, _ string, body ...[]byte) error {
	var ev event
	if err := json.Unmarshal(body[0], &ev); err != nil {
		return err
	}
	if ev.Window == store.Day {
		select {
		case e.days <- ev:
		case <-e.done:
		}
	}
	return nil
}

// TestTwoServicesShareAStore rolls up twice at once, each over its own handle of
// one file, while rows come in: every row is counted once in the end.
func TestTwoServicesShareAStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a guard
	defer cancel()
	open := func() *sqlite.Store {
		s, err := sqlite.Open(ctx, sqlite.Config{Dir: dir, LockTimeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	days := make(chan event)
	ended := make(chan error, 2)
	var services []*Service
	for range 2 {
		s, err := New(Config{Rollups: open(), Publisher: events{days, ctx.Done()}, Batch: 3})
		if err != nil {
			t.Fatal(err)
		}
		services = append(services, s)
		go func() { ended <- s.Run(ctx) }()
	}
	const batches, size = 20, 30
	rows := open()
	go func() {
		for b := range batches {
			var records []store.Record
			for i := range size {
				n := b*size + i
				records = append(records, store.Record{Series: "s", ID: fmt.Sprint(n), Value: 1,
					Time: time.Date(2026, 3, 1, 0, 0, n*7, 0, time.UTC)})
			}
			if _, err := rows.Apply(ctx, records); err != nil {
				t.Error(err)
				cancel()
				return
			}
			for _, s := range services {
				s.Wake()
			}
		}
	}()
	var last event
	for last.Count < batches*size {
		select {
		case ev := <-days:
			if ev.Rev > last.Rev { // events of the two may cross
				last = ev
			}
		case <-ctx.Done():
			t.Fatalf("the day never became complete, last %+v", last)
		}
	}
	if last.Count != batches*size || last.Sum != batches*size {
		t.Errorf("%+v, want %d rows", last, batches*size)
	}
	cancel()
	for range services {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
