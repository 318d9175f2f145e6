package lineclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestAnswersComeInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &door{answer: func(_, _ int, id string) string {
			if id == "id-7" {
				return "{\"ok\": false, \"error\": \"conflict\"}\n"
			}
			return okLine
		}}
		var got results
		c, end := start(t, d, Config{Answered: got.answered, Window: 10})
		for i := range 100 {
			if err := c.Send(t.Context(), rec(i), int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got.tags) != 100 || !slices.IsSorted(got.tags) || len(got.errs) != 1 || got.errs[7] != "conflict" {
			t.Errorf("tags %v, errors %v", got.tags, got.errs)
		}
		if s := c.Stats(); s.OK != 99 || s.Rejected != 1 || s.Resent != 0 || s.Outstanding != 0 || s.Connections != 1 || !s.Connected {
			t.Errorf("stats %+v", s)
		}
		if err := end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := c.Send(t.Context(), rec(1), 1); err != nil { // there is room in the window
			t.Errorf("Send: %v", err)
		}
		if err := c.Flush(t.Context()); !errors.Is(err, ErrEnded) {
			t.Errorf("Flush after the end: %v", err)
		}
	})
}

// TestLostConnectionsLoseNothing closes connections at random moments, before
// and after an answer, and lets dials fail.
func TestLostConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(5, 6))
		roll := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return dice.IntN(n)
		}
		d := &door{
			refuse: func(int) error {
				if roll(3) == 0 {
					return errors.New("connection refused")
				}
				return nil
			},
			answer: func(int, int, string) string {
				switch roll(40) {
				case 0:
					return ""
				case 1:
					return "{\"ok\": false, \"error\": \"full\", \"closing\": true}\n"
				case 2:
					return "HTTP/1.1 400\n"
				}
				return okLine
			},
		}
		var got results
		c, _ := start(t, d, Config{Answered: got.answered, Window: 16})
		const records = 1000
		for i := range records {
			if err := c.Send(t.Context(), rec(i), int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got.tags) != records || !slices.IsSorted(got.tags) || len(got.errs) != 0 {
			t.Errorf("%d tags, sorted %v, errors %v", len(got.tags), slices.IsSorted(got.tags), got.errs)
		}
		seen := make(map[string]bool)
		for _, id := range d.seen {
			seen[id] = true
		}
		if s := c.Stats(); len(seen) != records || s.OK != records || s.Resent == 0 || s.Connections < 5 {
			t.Errorf("%d records arrived, stats %+v", len(seen), s)
		}
	})
}

func TestANewConnectionBeginsWithTheOldestUnanswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &door{answer: func(c, n int, _ string) string {
			if c == 0 && n == 2 {
				return "" // the third line is read, and then the connection is lost
			}
			return okLine
		}}
		c, _ := start(t, d, Config{})
		for i := range 5 {
			if err := c.Send(t.Context(), rec(i), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want := []string{"id-0", "id-1", "id-2", "id-2", "id-3", "id-4"}
		if !slices.Equal(d.seen, want) {
			t.Errorf("lines %v, want %v", d.seen, want)
		}
	})
}

func TestTheWindowBlocksTheSender(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &door{answer: func(int, int, string) string { <-gate; return okLine }}
		c, _ := start(t, d, Config{Window: 3})
		sent := 0
		go func() {
			for i := range 10 {
				if c.Send(context.Background(), rec(i), 0) != nil {
					return
				}
				sent++
			}
		}()
		synctest.Wait()
		if sent != 3 || c.Stats().Outstanding != 3 {
			t.Errorf("%d sent, want the window of 3", sent)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Send(ctx, rec(99), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send with a full window: %v", err)
		}
		close(gate)
		synctest.Wait()
		if sent != 10 || c.Stats().Outstanding != 0 {
			t.Errorf("%d sent, %d outstanding", sent, c.Stats().Outstanding)
		}
	})
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		door *door
		text string
	}{
		"nobody there": {&door{refuse: func(int) error { return errors.New("connection refused") }}, "connection refused"},
		"no answer":    {&door{answer: func(int, int, string) string { time.Sleep(time.Hour); return "" }}, "unanswered"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, end := start(t, tc.door, Config{GiveUp: 30 * time.Second})
				time.Sleep(time.Hour) // fake time: with nothing outstanding there is nothing to give up
				begin := time.Now()
				if err := c.Send(t.Context(), rec(1), 0); err != nil {
					t.Fatal(err)
				}
				err := c.Flush(t.Context())
				if !errors.Is(err, ErrEnded) || !errors.Is(err, ErrNoProgress) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("Flush: %v", err)
				}
				if d := time.Since(begin); d < 30*time.Second || d > 45*time.Second {
					t.Errorf("gave up after %v", d)
				}
				if err := end(); !errors.Is(err, ErrNoProgress) {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

func TestThePauseGrowsAndIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &door{refuse: func(int) error { return errors.New("connection refused") }}
		c, _ := start(t, d, Config{})
		if err := c.Send(t.Context(), rec(1), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // fake time
		synctest.Wait()
		// At most 2 s between two tries, 1 s on average.
		if d.dials < 300 || d.dials > 1500 {
			t.Errorf("%d tries in ten minutes", d.dials)
		}
	})
}

func TestThePauseIsShortAgainAfterAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		d := &door{
			refuse: func(int) error {
				if time.Since(begun) < time.Hour {
					return errors.New("connection refused")
				}
				return nil
			},
			answer: func(_, n int, _ string) string { // one answer per connection
				if n > 0 {
					return ""
				}
				return okLine
			},
		}
		c, _ := start(t, d, Config{})
		const records = 100
		for i := range records {
			if err := c.Send(t.Context(), rec(i), 0); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour) // fake time
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The first connection may come two seconds late, the others 50 ms each.
		if d := time.Since(begun) - time.Hour; d > 2*time.Second+records*50*time.Millisecond {
			t.Errorf("%d short connections took %v", records, d)
		}
	})
}

func TestAnAnswerToNothingEndsTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &door{answer: func(c, _ int, _ string) string {
			if c == 0 {
				return okLine + okLine
			}
			return okLine
		}}
		c, _ := start(t, d, Config{})
		for i := range 3 {
			if err := c.Send(t.Context(), rec(i), 0); err != nil {
				t.Fatal(err)
			}
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(time.Second) // fake time: to reconnect
		}
		if s := c.Stats(); s.Connections != 2 || s.OK != 3 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestSendRefusesWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	c, err := New(Config{To: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*store.Record){
		"series": func(r *store.Record) { r.Series = "" },
		"id":     func(r *store.Record) { r.ID = "" },
		"time":   func(r *store.Record) { r.Time = time.Time{} },
	} {
		r := rec(1)
		spoil(&r)
		var bad *record.Error
		if err := c.Send(t.Context(), r, 0); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("Send without %s: %v", field, err)
		}
	}
	for _, to := range []string{"", "localhost", "tcp://"} {
		if _, err := New(Config{To: to}); err == nil {
			t.Errorf("New accepts the address %q", to)
		}
	}
}
