package rollup

import "sync/atomic"

// Stats are counts since the start.
type Stats struct {
	Passes        uint64
	Points        uint64 // points written to the store
	Unavailable   uint64 // passes that met an unavailable store
	Published     uint64 // events, the newest per batch, series and window
	PublishFailed uint64
	Skipped       uint64 // events not tried shortly after a failure
	CacheFailed   uint64 // points the cache did not take
}

type counters struct {
	passes, points, unavailable, published, publishFailed, skipped, cacheFailed atomic.Uint64
}

// Stats returns the counts; they are read one by one, not at one instant.
func (s *Service) Stats() Stats {
	c := &s.counts
	return Stats{
		Passes:        c.passes.Load(),
		Points:        c.points.Load(),
		Unavailable:   c.unavailable.Load(),
		Published:     c.published.Load(),
		PublishFailed: c.publishFailed.Load(),
		Skipped:       c.skipped.Load(),
		CacheFailed:   c.cacheFailed.Load(),
	}
}
