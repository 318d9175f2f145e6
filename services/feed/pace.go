package feed

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseSpeed reads what a person writes: "max", or how many times faster than
// real time, such as "60" or "60x".
func ParseSpeed(text string) (float64, error) {
	if strings.EqualFold(text, "max") {
		return Max, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(n > 0) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("speed %q: want max, or a number above 0 such as 60 for one minute per second", text)
	}
	return n, nil
}

// pace holds rows back until they are due. The first row is due at once, and
// rows that are late, or out of order, too.
type pace struct {
	begun time.Time
	first time.Time
}

// wait blocks until a row of time at is due, or ctx ends.
func (p *pace) wait(ctx context.Context, speed float64, at time.Time) error {
	if speed == Max {
		return nil
	}
	if p.begun.IsZero() {
		p.begun, p.first = time.Now(), at
		return nil
	}
	due := float64(at.Sub(p.first)) / speed
	left := time.Duration(min(due, math.MaxInt64/2)) - time.Since(p.begun)
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
