package sqlite

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// BenchmarkApply shows durable records per second by the size of a call's batch,
// for one caller and for many that share commits.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d/callers=1", size), func(b *testing.B) {
			s := open(b, b.TempDir())
			next := 0
			for b.Loop() {
				apply(b, s, newBatch(next, size)...)
				next += size
			}
			b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "records/s")
		})
	}
	b.Run("batch=1/callers=64", func(b *testing.B) {
		s := open(b, b.TempDir())
		var next atomic.Int64
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				apply(b, s, newBatch(int(next.Add(1)), 1)...)
			}
		})
		b.ReportMetric(float64(next.Load())/b.Elapsed().Seconds(), "records/s")
	})
}

func newBatch(first, size int) []store.Record {
	batch := make([]store.Record, size)
	for i := range batch {
		n := first + i
		batch[i] = rec(fmt.Sprintf("series-%d", n%100), fmt.Sprintf("id-%d", n), time.Duration(n)*10*time.Millisecond, float64(n), 0)
	}
	return batch
}

// BenchmarkRecompute shows 10s windows per second with their longer windows, in
// batches of 500: of history (one row every five minutes) and live (one row a
// second in each of 100 series).
func BenchmarkRecompute(b *testing.B) {
	shapes := map[string]func(n int) store.Record{
		"history": func(n int) store.Record {
			return rec("one", fmt.Sprint(n), time.Duration(n)*5*time.Minute, float64(n), 0)
		},
		"live": func(n int) store.Record {
			return rec(fmt.Sprintf("series-%d", n%100), fmt.Sprint(n), time.Duration(n/100)*time.Second, float64(n), 0)
		},
	}
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			s := open(b, b.TempDir())
			next, windows, points := 0, 0, 0
			for b.Loop() {
				b.StopTimer()
				batch := make([]store.Record, 1000)
				for i := range batch {
					batch[i] = shape(next)
					next++
				}
				apply(b, s, batch...)
				windows += dirtyWindows(b, s)
				b.StartTimer()
				points += len(rollUp(b, s, 500))
			}
			b.ReportMetric(float64(windows)/b.Elapsed().Seconds(), "windows/s")
			b.ReportMetric(float64(points)/b.Elapsed().Seconds(), "points/s")
		})
	}
}

// BenchmarkReaders reads from a million rows of a thousand series.
func BenchmarkReaders(b *testing.B) {
	if testing.Short() {
		b.Skip("fills a million rows first")
	}
	s := open(b, b.TempDir())
	for n := 0; n < 1_000_000; n += 10_000 {
		batch := make([]store.Record, 10_000)
		for i := range batch {
			at := time.Duration((n+i)/1000) * 10 * time.Second
			batch[i] = rec(fmt.Sprintf("series-%03d", i%1000), fmt.Sprintf("id-%d", n+i), at, float64(i), 0)
		}
		apply(b, s, batch...)
	}
	last := rollUp(b, s, 500)
	rev := last[len(last)-1].Rev
	b.Run("newest", func(b *testing.B) {
		for b.Loop() {
			if points, err := s.Newest(b.Context()); err != nil || len(points) != 4000 {
				b.Fatal(len(points), err)
			}
		}
	})
	b.Run("points=1000", func(b *testing.B) {
		for b.Loop() {
			points, err := s.Points(b.Context(), store.Query{Series: "series-500", Window: store.TenSeconds, Limit: 1000})
			if err != nil || len(points) != 1000 {
				b.Fatal(len(points), err)
			}
		}
	})
	b.Run("since=100", func(b *testing.B) {
		for b.Loop() {
			if points, err := s.Since(b.Context(), rev-100, 1000); err != nil || len(points) != 100 {
				b.Fatal(len(points), err)
			}
		}
	})
}
