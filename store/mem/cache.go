package mem

import (
	"cmp"
	"slices"
	"sort"
	"sync"

	"github.com/mdmesh/mdmesh/store"
)

// Default bounds of a Cache.
const (
	DefaultMaxSeries = 10_000
	DefaultMaxOlder  = 50_000
)

// CacheConfig bounds a Cache. Zero values mean the defaults.
type CacheConfig struct {
	MaxSeries int // series kept; over it the series that changed longest ago leaves
	MaxOlder  int // changed points kept beside the newest ones, for readers a little behind
}

// CacheStats counts what a Cache holds and what it gave up.
type CacheStats struct {
	Series        int
	Points        int
	Rev           int64
	EvictedSeries uint64 // series that left because MaxSeries was reached
	EvictedPoints uint64 // points that left because MaxOlder was reached: readers behind them see a gap
	UnknownWindow uint64 // points refused because their window is none of store.Windows
}

// Cache holds the newest point of every (series, window) and a bounded number of
// other recent changes. Its size does not depend on the number or the speed of
// its readers: each keeps a rev as its cursor, and whoever is slow finds several
// changes of one window already merged into the last one. Safe for concurrent use.
type Cache struct {
	maxSeries, maxOlder int

	mu sync.RWMutex
	// guards the following
	log     []*entry            // ascending rev; dead entries stay until compact
	series  map[string][]*entry // newest entry per window, in the order of store.Windows
	byStart map[startKey]*entry // every living entry
	older   []*entry            // living or dead entries that are not the newest, first in first out
	floor   int64               // highest rev that was given up: a cursor below it may have missed points
	stats   CacheStats
	dead    int
}

type entry struct {
	point  store.Point
	newest bool // of its series and window
	dead   bool // replaced or evicted
}

type startKey struct {
	series string
	window store.Window
	start  int64 // Unix seconds: every window starts on a whole second
}

func keyOf(p store.Point) startKey { return startKey{p.Series, p.Window, p.Start.Unix()} }

// NewCache returns an empty cache.
func NewCache(c CacheConfig) *Cache {
	return &Cache{
		maxSeries: cmp.Or(max(c.MaxSeries, 0), DefaultMaxSeries),
		maxOlder:  cmp.Or(max(c.MaxOlder, 0), DefaultMaxOlder),
		series:    make(map[string][]*entry),
		byStart:   make(map[startKey]*entry),
	}
}

// Put takes points in any order; those not newer than Rev are known already and
// ignored. The slice stays the caller's. It tells whether anything changed.
func (c *Cache) Put(points []store.Point) bool {
	byRev := func(a, b store.Point) int { return cmp.Compare(a.Rev, b.Rev) }
	if !slices.IsSortedFunc(points, byRev) {
		points = slices.SortedStableFunc(slices.Values(points), byRev)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for _, p := range points {
		changed = c.putLocked(p) || changed
	}
	c.compactLocked()
	return changed
}

func (c *Cache) putLocked(p store.Point) bool {
	window := slices.Index(store.Windows, p.Window)
	if window < 0 {
		c.stats.UnknownWindow++
		return false
	}
	if p.Rev <= c.stats.Rev {
		return false
	}
	c.stats.Rev = p.Rev
	newest, known := c.series[p.Series]
	if !known {
		c.evictSeriesLocked()
		newest = make([]*entry, len(store.Windows))
		c.series[p.Series] = newest
	}
	if same := c.byStart[keyOf(p)]; same != nil {
		c.killLocked(same)
	}
	e := &entry{point: p}
	c.log = append(c.log, e)
	c.byStart[keyOf(p)] = e
	switch before := newest[window]; {
	case before == nil:
		e.newest = true
		newest[window] = e
	case before.point.Start.After(p.Start):
		c.demoteLocked(e)
	default:
		e.newest = true
		newest[window] = e
		c.demoteLocked(before)
	}
	return true
}

// demoteLocked moves an entry among the older ones, and the oldest of those out.
func (c *Cache) demoteLocked(e *entry) {
	e.newest = false
	if e.dead {
		return
	}
	c.older = append(c.older, e)
	for len(c.older) > c.maxOlder {
		first := c.older[0]
		c.older = c.older[1:]
		if !first.dead {
			c.killLocked(first)
			c.floor = max(c.floor, first.point.Rev)
			c.stats.EvictedPoints++
		}
	}
}

// evictSeriesLocked makes room for one more series.
func (c *Cache) evictSeriesLocked() {
	if len(c.series) < c.maxSeries {
		return
	}
	stale := slices.IndexFunc(c.log, func(e *entry) bool { return e.newest && !e.dead })
	if stale < 0 {
		return
	}
	name := c.log[stale].point.Series
	for _, e := range c.series[name] {
		if e != nil {
			c.killLocked(e)
			c.floor = max(c.floor, e.point.Rev)
		}
	}
	delete(c.series, name)
	c.stats.EvictedSeries++
}

func (c *Cache) killLocked(e *entry) {
	if e.dead {
		return
	}
	e.dead = true
	c.dead++
	if key := keyOf(e.point); c.byStart[key] == e {
		delete(c.byStart, key)
	}
}

// compactLocked drops dead entries once they are the greater part, so that its
// cost is shared by as many puts.
func (c *Cache) compactLocked() {
	if c.dead < 1024 || c.dead*2 < len(c.log) {
		return
	}
	dead := func(e *entry) bool { return e.dead }
	c.log = slices.DeleteFunc(c.log, dead)
	c.older = slices.DeleteFunc(slices.Clone(c.older), dead)
	c.dead = 0
}

// Read is one step of a reader through the cache.
type Read struct {
	After       int64                    // cursor: next of the step before, 0 at the beginning
	NewestUntil int64                    // up to this rev only the newest point of each series and window
	Limit       int                      // most points to return
	Match       func(series string) bool // nil matches all
}

// Since returns points with a rev above r.After, lowest rev first, and the cursor
// for the next step: fewer points than r.Limit mean that the reader has caught up.
// Gap tells that points it should have had were given up before it came: the
// newest point of every series still kept is among what follows, history must
// come from the store. The returned slice is the caller's.
func (c *Cache) Since(r Read) (points []store.Point, next int64, gap bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	gap = max(r.After, r.NewestUntil) < c.floor
	next = max(r.After, c.stats.Rev)
	first := sort.Search(len(c.log), func(i int) bool { return c.log[i].point.Rev > r.After })
	for _, e := range c.log[first:] {
		wanted := e.newest || e.point.Rev > r.NewestUntil
		if e.dead || !wanted || (r.Match != nil && !r.Match(e.point.Series)) {
			continue
		}
		points = append(points, e.point)
		if len(points) == r.Limit {
			return points, e.point.Rev, gap
		}
	}
	return points, next, gap
}

// Rev is the highest rev the cache has seen.
func (c *Cache) Rev() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stats.Rev
}

// Stats returns the counters at this moment.
func (c *Cache) Stats() CacheStats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	stats := c.stats
	stats.Series, stats.Points = len(c.series), len(c.byStart)
	return stats
}
