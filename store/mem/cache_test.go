package mem

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mdmesh/mdmesh/store"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func point(series string, start, rev int64) store.Point {
	return store.Point{Series: series, Window: store.TenSeconds, Start: noon.Add(time.Duration(start) * 10 * time.Second), Rev: rev}
}

func revs(points []store.Point) []int64 {
	list := []int64{}
	for _, p := range points {
		list = append(list, p.Rev)
	}
	return list
}

func TestSinceGivesWhatChanged(t *testing.T) {
	t.Parallel()
	c := NewCache(CacheConfig{})
	c.Put([]store.Point{point("a", 0, 1), point("b", 0, 2), point("a", 0, 3), point("a", 1, 4), point("a", 0, 5)})
	tests := []struct {
		name string
		read Read
		want []int64
		next int64
	}{
		{"everything, replaced points left out", Read{Limit: 10}, []int64{2, 4, 5}, 5},
		{"newest of each window only", Read{Limit: 10, NewestUntil: 5}, []int64{2, 4}, 5},
		{"newest up to a rev, then all", Read{Limit: 10, NewestUntil: 4}, []int64{2, 4, 5}, 5},
		{"from a cursor", Read{Limit: 10, After: 2}, []int64{4, 5}, 5},
		{"cut by the limit", Read{Limit: 1}, []int64{2}, 2},
		{"one series", Read{Limit: 10, Match: func(s string) bool { return s == "b" }}, []int64{2}, 5},
		{"nothing new", Read{Limit: 10, After: 5}, []int64{}, 5},
		{"ahead of the cache", Read{Limit: 10, After: 9}, []int64{}, 9},
	}
	for _, test := range tests {
		points, next, gap := c.Since(test.read)
		if got := revs(points); !slices.Equal(got, test.want) || next != test.next || gap {
			t.Errorf("%s: revs %v next %d gap %v, want %v %d false", test.name, got, next, gap, test.want, test.next)
		}
	}
}

func TestPutIgnoresKnownAndUnknown(t *testing.T) {
	t.Parallel()
	c := NewCache(CacheConfig{})
	if !c.Put([]store.Point{point("a", 1, 7), point("a", 0, 6)}) {
		t.Error("new points changed nothing")
	}
	if c.Put([]store.Point{point("a", 1, 7), point("a", 2, 3)}) {
		t.Error("points that are known or older changed something")
	}
	odd := point("a", 3, 8)
	odd.Window = "week"
	if c.Put([]store.Point{odd}) {
		t.Error("an unknown window was kept")
	}
	if s := c.Stats(); s.Rev != 7 || s.Points != 2 || s.Series != 1 || s.UnknownWindow != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestBoundsAreKeptAndTold(t *testing.T) {
	t.Parallel()
	c := NewCache(CacheConfig{MaxSeries: 2, MaxOlder: 3})
	for i := range int64(10) {
		c.Put([]store.Point{point("a", i, i+1)})
	}
	points, _, gap := c.Since(Read{Limit: 100, After: 2})
	if got := revs(points); !slices.Equal(got, []int64{7, 8, 9, 10}) || !gap {
		t.Errorf("behind the bound: revs %v gap %v, want 7 to 10 and a gap", got, gap)
	}
	if _, _, gap := c.Since(Read{Limit: 100, After: 6}); gap {
		t.Error("a cursor that missed nothing was told of a gap")
	}
	if _, _, gap := c.Since(Read{Limit: 100, NewestUntil: 10}); gap {
		t.Error("a reader of the newest points was told of a gap")
	}
	c.Put([]store.Point{point("b", 0, 11), point("c", 0, 12)})
	points, _, _ = c.Since(Read{Limit: 100, NewestUntil: 12})
	if got := revs(points); !slices.Equal(got, []int64{11, 12}) {
		t.Errorf("the series that changed longest ago should have left: newest revs %v", got)
	}
	if s := c.Stats(); s.Series != 2 || s.EvictedSeries != 1 || s.EvictedPoints != 6 {
		t.Errorf("stats %+v", s)
	}
}

// A reader that follows its cursor ends with the newest state of every window it
// was not told to have missed, however puts and reads are mixed.
func TestReaderMissesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		maxOlder := rapid.IntRange(1, 40).Draw(t, "older")
		c := NewCache(CacheConfig{MaxSeries: 8, MaxOlder: maxOlder})
		truth, seen := map[startKey]int64{}, map[startKey]int64{}
		var rev, cursor int64
		gaps := false
		read := func(limit int) {
			points, next, gap := c.Since(Read{After: cursor, Limit: limit})
			for _, p := range points {
				seen[keyOf(p)] = p.Rev
			}
			cursor, gaps = next, gaps || gap
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				rev++
				p := point(fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "series")), int64(rapid.IntRange(0, 9).Draw(t, "start")), rev)
				truth[keyOf(p)] = rev
				c.Put([]store.Point{p})
			} else {
				read(rapid.IntRange(1, 5).Draw(t, "limit"))
			}
			if s := c.Stats(); s.Points > maxOlder+4 {
				t.Fatalf("%d points kept, bound is %d older and 4 newest", s.Points, maxOlder)
			}
		}
		for cursor < rev {
			read(5)
		}
		newest := map[string]startKey{}
		for key := range truth {
			if key.start >= newest[key.series].start {
				newest[key.series] = key
			}
		}
		for key, want := range truth {
			if seen[key] != want && (!gaps || newest[key.series] == key) {
				t.Fatalf("window %v: saw rev %d, want %d (gaps %v)", key, seen[key], want, gaps)
			}
		}
	})
}

func TestCompactKeepsEverythingAlive(t *testing.T) {
	t.Parallel()
	c := NewCache(CacheConfig{MaxOlder: 10})
	for i := range int64(10_000) {
		c.Put([]store.Point{point("a", i/100, i+1)})
	}
	if len(c.log) > 3000 {
		t.Errorf("%d entries kept for 11 living ones", len(c.log))
	}
	points, _, _ := c.Since(Read{Limit: 100})
	want := []int64{}
	for i := int64(9000); i <= 10_000; i += 100 {
		want = append(want, i)
	}
	if got := revs(points); !slices.Equal(got, want) {
		t.Errorf("revs %v, want %v", got, want)
	}
}
