package zsock

import (
	"math/rand/v2"
	"time"
)

// Backoff spaces reconnects with full jitter: each wait is uniform between zero
// and a ceiling that starts at Min and doubles up to Max, so that many peers that
// lost the same broker do not come back together. The zero value is 50 ms to 2 s.
// It is for one goroutine.
type Backoff struct {
	Min, Max time.Duration
	tries    int
}

// Next is how long to wait before the next try.
func (b *Backoff) Next() time.Duration {
	ceiling, limit := b.Min, b.Max
	orDefault(&ceiling, 50*time.Millisecond)
	orDefault(&limit, 2*time.Second)
	for range b.tries {
		if ceiling >= limit {
			break
		}
		ceiling *= 2
	}
	b.tries++
	return rand.N(min(ceiling, limit)) + 1
}

// Reset starts over; call it when a connection has proved to work.
func (b *Backoff) Reset() { b.tries = 0 }
