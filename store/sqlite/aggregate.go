package sqlite

import "math"

// aggregate is the content of a point. Sum and low are one number of twice the
// precision: low collects the rounding errors of sum (Neumaier). Because the low
// part is kept and goes into the longer windows, a day's sum is as exact as if its
// rows had been added one by one without rounding: the error stays around
// n * 2^-106 of the sum of the magnitudes, whatever the grouping.
type aggregate struct {
	count    int64
	sum, low float64 // normalised by done: sum is the rounded total, |low| <= ulp(sum)/2
	min, max float64
	last     float64
}

// add takes one row. Rows come in the order (time, id): the last one is the latest.
func (a *aggregate) add(v float64) {
	a.merge(aggregate{count: 1, sum: v, min: v, max: v, last: v})
}

// merge takes the next shorter window, in the order of their starts.
func (a *aggregate) merge(b aggregate) {
	if b.count == 0 {
		return
	}
	if a.count == 0 {
		*a = b
		return
	}
	a.count += b.count
	a.plus(b.sum)
	a.low += b.low
	a.min = min(a.min, b.min)
	a.max = max(a.max, b.max)
	a.last = b.last
}

func (a *aggregate) plus(v float64) {
	sum := a.sum + v
	switch {
	case math.IsInf(sum, 0):
		// JSON knows no infinity, and the windows must stay computable: stop at the edge.
		a.sum, a.low = math.Copysign(math.MaxFloat64, sum), 0
		return
	case math.Abs(a.sum) >= math.Abs(v):
		a.low += (a.sum - sum) + v
	default:
		a.low += (v - sum) + a.sum
	}
	a.sum = sum
}

// done folds the low part into the sum, so that sum alone is the best float64.
func (a *aggregate) done() {
	low := a.low
	a.low = 0
	a.plus(low)
	a.sum += 0 // no negative zero
}

func (a aggregate) mean() float64 {
	if a.count == 0 {
		return 0
	}
	return a.sum / float64(a.count)
}
