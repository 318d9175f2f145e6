package broker

import "math/bits"

// histogramBuckets is how many there are: bucket i holds times below 2^i
// microseconds that no lower one does, and the last one all the rest (from 67 s).
const histogramBuckets = 28

// Histogram counts times in buckets that double, so that adding is a few
// instructions. The zero value is ready; as a snapshot it belongs to its reader.
type Histogram struct {
	Count   uint64
	SumUs   uint64
	Buckets [histogramBuckets]uint64
}

// HistogramBound is the upper bound of a bucket in microseconds, exclusive; the
// last bucket has none.
func HistogramBound(bucket int) uint64 { return 1 << bucket }

// add takes in one time in nanoseconds.
func (h *Histogram) add(ns int64) {
	us := uint64(max(ns, 0)) / 1_000
	h.Count++
	h.SumUs += us
	h.Buckets[min(bits.Len64(us), histogramBuckets-1)]++
}

// Merge adds another histogram's counts.
func (h *Histogram) Merge(o *Histogram) {
	h.Count += o.Count
	h.SumUs += o.SumUs
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
}

// quantile estimates the time in microseconds below which a part q of all were:
// right to within its bucket, a factor of two.
func (h *Histogram) quantile(q float64) int64 {
	rank := q * float64(h.Count)
	below := 0.0
	for i, n := range h.Buckets {
		if n > 0 && below+float64(n) >= rank {
			low := float64(HistogramBound(i)) / 2
			if i == 0 {
				low = 0
			}
			return int64(low + (float64(HistogramBound(i))-low)*(rank-below)/float64(n))
		}
		below += float64(n)
	}
	return 0
}

// Times sums a histogram up for listings, all in microseconds.
type Times struct {
	Count  uint64 `json:"count"`
	MeanUs int64  `json:"mean_us"`
	P50Us  int64  `json:"p50_us"` // estimated from buckets that double
	P99Us  int64  `json:"p99_us"`
}

func (h *Histogram) times() Times {
	t := Times{Count: h.Count, P50Us: h.quantile(0.5), P99Us: h.quantile(0.99)}
	if h.Count > 0 {
		t.MeanUs = int64(h.SumUs / h.Count)
	}
	return t
}
