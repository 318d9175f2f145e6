package push

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/mem"
)

const (
	readBatch   = 1000                  // points taken from the store at once
	readTimeout = 10 * time.Second      // of one read; a store that hangs is tried again
	hintSpacing = 50 * time.Millisecond // least time between two reads, however many hints come
)

// follower copies what is new in the store into the cache. One goroutine runs it.
type follower struct {
	store   store.Reader
	cache   *mem.Cache
	poll    time.Duration
	log     hclog.Logger
	hint    chan struct{} // capacity 1: hints coalesce
	changed func()        // called after the cache changed

	points, polls, failures atomic.Uint64
	loaded                  atomic.Bool           // the newest points were read once
	broken                  atomic.Pointer[error] // why the last read failed, nil after a good one
	rev                     int64                 // everything up to here was read
}

func (f *follower) wake() {
	select {
	case f.hint <- struct{}{}:
	default:
	}
}

// run reads until ctx ends: at once, after each hint, and every f.poll. An unusable
// store ends it with that error.
func (f *follower) run(ctx context.Context) error {
	ticker := time.NewTicker(f.poll)
	defer ticker.Stop()
	spacing := time.NewTimer(0)
	defer spacing.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-spacing.C:
		}
		err := f.read(ctx)
		if errors.Is(err, store.ErrUnusable) {
			return err
		}
		f.report(ctx, err)
		spacing.Reset(min(hintSpacing, f.poll))
		select {
		case <-ctx.Done():
			return nil
		case <-f.hint:
		case <-ticker.C:
		}
	}
}

// read brings the cache up to date with the store.
func (f *follower) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	f.polls.Add(1)
	if !f.loaded.Load() {
		if err := f.load(ctx); err != nil {
			return err
		}
	}
	for {
		points, err := f.store.Since(ctx, f.rev, readBatch)
		if err != nil {
			return fmt.Errorf("read points since rev %d: %w", f.rev, err)
		}
		f.take(points)
		if len(points) < readBatch {
			return nil
		}
	}
}

// load reads the newest points. What changed before them is history, which
// browsers ask for by themselves, so following starts at their highest rev.
func (f *follower) load(ctx context.Context) error {
	points, err := f.store.Newest(ctx)
	if err != nil {
		return fmt.Errorf("read newest points: %w", err)
	}
	f.loaded.Store(true)
	f.take(points)
	return nil
}

func (f *follower) take(points []store.Point) {
	if len(points) == 0 {
		return
	}
	for _, p := range points {
		f.rev = max(f.rev, p.Rev)
	}
	f.points.Add(uint64(len(points)))
	if f.cache.Put(points) {
		f.changed()
	}
}

// report logs when the store breaks and when it heals, not each failed read.
func (f *follower) report(ctx context.Context, err error) {
	if err == nil {
		if f.broken.Swap(nil) != nil {
			f.log.Info("store answers again", "rev", f.rev)
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	f.failures.Add(1)
	if f.broken.Swap(&err) == nil {
		f.log.Warn("store cannot be read, trying on", "error", err, "every", f.poll)
	}
}
