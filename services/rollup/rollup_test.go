package rollup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rollups answers with the batches it is given and remembers when it was asked.
type rollups struct {
	sync.Mutex
	start   time.Time
	asked   []time.Duration
	batches [][]store.Point // each one an answer; more is true until the last
	err     error
}

func (r *rollups) Recompute(_ context.Context, limit int) ([]store.Point, bool, error) {
	r.Lock()
	defer r.Unlock()
	if limit < 1 {
		return nil, false, fmt.Errorf("limit %d", limit)
	}
	r.asked = append(r.asked, time.Since(r.start))
	if r.err != nil {
		return nil, false, r.err
	}
	if len(r.batches) == 0 {
		return nil, false, nil
	}
	points := r.batches[0]
	r.batches = r.batches[1:]
	return points, len(r.batches) > 0, nil
}

type publisher struct {
	sync.Mutex
	events []string
	tries  int
	err    error
	hang   bool
}

func (p *publisher) Publish(ctx context.Context, topic string, body ...[]byte) error {
	p.Lock()
	defer p.Unlock()
	p.tries++
	if p.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if p.err == nil {
		p.events = append(p.events, topic+" "+string(body[0]))
	}
	return p.err
}

type cache struct {
	points []store.Point
	err    error
}

func (c *cache) Put(_ context.Context, points []store.Point) error {
	if c.err == nil {
		c.points = append(c.points, points...)
	}
	return c.err
}

// running starts Run in a bubble of fake time; stop ends it and returns its error.
func running(t *testing.T, cfg Config) (s *Service, stop func() error) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	return s, func() error {
		cancel()
		return <-done
	}
}

// advance lets fake time pass, and then whoever was woken come to rest.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func point(series string, w store.Window, minute int, rev int64) store.Point {
	return store.Point{Series: series, Window: w, Start: time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC),
		Count: 2, Sum: 3, Min: 1, Max: 2, Mean: 1.5, Last: 2, Rev: rev}
}

func TestTicksAndHints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rollups{start: time.Now()}
		s, stop := running(t, Config{Rollups: r})
		advance(1050 * time.Millisecond) // passes at 0, 500 and 1000
		for range 5 {
			s.Wake() // in the gap after 1000: one pass at 1100
		}
		advance(150 * time.Millisecond)
		s.Wake() // at 1200, exactly when the gap is over or just after: at once
		advance(50 * time.Millisecond)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		ms := time.Millisecond
		want := []time.Duration{0, 500 * ms, 1000 * ms, 1100 * ms, 1200 * ms}
		if !slices.Equal(r.asked, want) {
			t.Errorf("passes at %v, want %v", r.asked, want)
		}
	})
}

func TestPassGoesOnUntilNothingIsDirty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rollups{start: time.Now(), batches: [][]store.Point{
			{point("a", store.TenSeconds, 0, 1), point("a", store.TenSeconds, 2, 2), point("a", store.TenSeconds, 1, 3), point("a", store.Minute, 0, 4)},
			{},
			{point("b", store.TenSeconds, 0, 5), point("b", store.TenSeconds, 0, 6)},
		}}
		p, c := &publisher{}, &cache{}
		s, stop := running(t, Config{Rollups: r, Publisher: p, Cache: c})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		const rest = `"count":2,"sum":3,"min":1,"max":2,"mean":1.5,"last":2`
		want := []string{
			`rollup/a {"series":"a","window":"10s","start":"2026-03-01T12:02:00Z",` + rest + `,"rev":2}`,
			`rollup/a {"series":"a","window":"minute","start":"2026-03-01T12:00:00Z",` + rest + `,"rev":4}`,
			`rollup/b {"series":"b","window":"10s","start":"2026-03-01T12:00:00Z",` + rest + `,"rev":6}`,
		}
		if !slices.Equal(p.events, want) {
			t.Errorf("events %q, want %q", p.events, want)
		}
		if len(c.points) != 6 {
			t.Errorf("%d points cached, want all 6", len(c.points))
		}
		if got := s.Stats(); got.Points != 6 || got.Published != 3 || got.Passes != 1 || len(r.asked) != 3 {
			t.Errorf("%+v, asked %v", got, r.asked)
		}
	})
}

func TestUnavailableStoreIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rollups{start: time.Now(), err: fmt.Errorf("recompute: %w", store.ErrUnavailable)}
		s, stop := running(t, Config{Rollups: r})
		advance(time.Minute)
		r.Lock()
		n := len(r.asked)
		for i := 1; i < n; i++ {
			if gap := r.asked[i] - r.asked[i-1]; gap < 100*time.Millisecond || gap > 100*time.Millisecond+maxBackoff {
				t.Fatalf("pause of %v between tries", gap)
			}
		}
		if n < 50 || n > 600 {
			t.Errorf("%d tries in a minute", n)
		}
		r.err = nil
		r.batches = [][]store.Point{{point("a", store.Day, 0, 1)}}
		r.Unlock()
		advance(2 * time.Second)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats(); got.Points != 1 || got.Unavailable != uint64(n) {
			t.Errorf("%+v after %d failures", got, n)
		}
	})
}

func TestDamagedStoreEndsRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		damaged := errors.New("damaged")
		_, stop := running(t, Config{Rollups: &rollups{err: damaged}})
		if err := stop(); !errors.Is(err, damaged) {
			t.Errorf("%v, want %v", err, damaged)
		}
	})
}

// TestLostNews shows that neither a failing nor a hanging broker or cache holds
// the roll-up up, and that every loss is counted.
func TestLostNews(t *testing.T) {
	t.Parallel()
	batch := []store.Point{point("a", store.Minute, 0, 1), point("b", store.Minute, 0, 2), point("c", store.Minute, 0, 3)}
	for name, p := range map[string]*publisher{
		"failing": {err: errors.New("no broker")},
		"hanging": {hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &rollups{start: time.Now(), batches: [][]store.Point{batch, batch, batch}}
				s, stop := running(t, Config{Rollups: r, Publisher: p, Cache: &cache{err: errors.New("gone")}})
				advance(time.Second)
				r.Lock()
				if len(r.batches) != 0 {
					t.Errorf("%d batches left after a second", len(r.batches))
				}
				r.Unlock()
				advance(time.Second)
				p.Lock()
				p.err, p.hang = nil, false
				p.Unlock()
				r.Lock()
				r.batches = [][]store.Point{batch}
				r.Unlock()
				advance(time.Second)
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				got := s.Stats()
				want := Stats{Passes: got.Passes, Points: 12, PublishFailed: 1, Skipped: 8, Published: 3, CacheFailed: 12}
				if got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestNewWantsRollups(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("no error")
	}
}
