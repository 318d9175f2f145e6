// Package rollup is the service that keeps the roll-ups up to date: it recomputes
// what is dirty and tells the mesh which points changed.
//
// The one invariant: all truth is in the store. Hints, events and the cache may
// be lost, late or doubled without any window being wrong, and several processes
// may run it at once.
//
// Start reading at Run. Event payloads are in docs/DATA.md.
package rollup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/store"
)

// DirtyTopic is the topic of the hint that rows wait; call Wake for each event.
const DirtyTopic = "dirty"

// Topic begins the topic of every point: Topic + series.
const Topic = "rollup/"

// Publisher sends events; *client.Client is one.
type Publisher interface {
	Publish(ctx context.Context, topic string, body ...[]byte) error
}

// Cache is kept up to date with the points that changed, oldest rev first. Put
// must leave a point alone that it knows with a higher rev: several processes
// write to it in any order. A failed Put is counted and not repeated.
type Cache interface {
	Put(ctx context.Context, points []store.Point) error
}

// Config is what a Service needs. Rollups is required; zero durations and
// numbers mean the default.
type Config struct {
	Rollups   store.Rollups
	Publisher Publisher     // nil publishes nothing
	Cache     Cache         // nil keeps none
	Tick      time.Duration // longest pause between two passes, default 500 ms
	Gap       time.Duration // shortest pause between two passes, whatever the hints, default 100 ms
	Batch     int           // windows per transaction, default 500
	Logger    hclog.Logger  // nil logs nothing
}

// Service recomputes. New starts nothing; Run does the work.
type Service struct {
	cfg    Config
	log    hclog.Logger
	wake   chan struct{} // holds one token while a hint waits
	news   news
	counts counters
}

// New checks the Config and returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Rollups == nil {
		return nil, errors.New("rollup: Config.Rollups is missing: open a store")
	}
	if cfg.Tick <= 0 {
		cfg.Tick = 500 * time.Millisecond
	}
	if cfg.Gap <= 0 {
		cfg.Gap = 100 * time.Millisecond
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 500
	}
	log := cfg.Logger
	if log == nil {
		log = hclog.NewNullLogger()
	}
	s := &Service{cfg: cfg, log: log, wake: make(chan struct{}, 1)}
	s.news = news{publisher: cfg.Publisher, cache: cfg.Cache, log: log, counts: &s.counts}
	return s, nil
}

// Wake asks for a pass soon. It never blocks; hints that come together make one pass.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run makes passes until ctx ends, and then returns nil. It tries again while the
// store is unavailable; any other failure of the store (a damaged file) ends it
// with that error. One Service runs once.
func (s *Service) Run(ctx context.Context) error {
	for failures := 0; ; {
		err := s.pass(ctx)
		pause := s.cfg.Gap
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrUnavailable):
			if failures++; failures == 1 {
				s.log.Warn("store is unavailable, trying on", "error", err)
			}
			s.counts.unavailable.Add(1)
			pause += backoff(failures)
		case err != nil:
			return fmt.Errorf("rollup: %w", err)
		default:
			if failures > 0 {
				s.log.Info("store answers again", "after-failures", failures)
			}
			failures = 0
		}
		if !sleep(ctx, pause, nil) {
			return nil
		}
		if failures == 0 && !sleep(ctx, s.cfg.Tick-pause, s.wake) {
			return nil
		}
	}
}

// pass recomputes until nothing is dirty, and tells of each batch as soon as it
// is committed.
func (s *Service) pass(ctx context.Context) error {
	s.counts.passes.Add(1)
	for {
		points, more, err := s.cfg.Rollups.Recompute(ctx, s.cfg.Batch)
		if err != nil {
			return err
		}
		s.counts.points.Add(uint64(len(points)))
		s.news.tell(ctx, points)
		if !more || ctx.Err() != nil {
			return nil
		}
	}
}

// maxBackoff lets a store that is back be noticed in time to show its rows within 2 s.
const maxBackoff = time.Second

// backoff draws a pause between 0 and a limit that doubles with every failure.
func backoff(failures int) time.Duration {
	limit := min(maxBackoff, 50*time.Millisecond<<min(failures, 10))
	return rand.N(limit)
}

// sleep waits for d, or until wake gives; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}
