package rollup

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/store"
)

const (
	// newsTimeout bounds how long telling of one batch may hold up the next.
	newsTimeout = 250 * time.Millisecond
	// newsPause is how long nothing is published after a failure, so that a broker
	// that is away does not slow every batch.
	newsPause = time.Second
)

// news tells the cache and the mesh of points. What it cannot tell it counts and
// drops: readers follow the rev in the store. It belongs to Run's goroutine.
type news struct {
	publisher Publisher
	cache     Cache
	log       hclog.Logger
	counts    *counters
	resume    time.Time // until then nothing is published
}

func (n *news) tell(ctx context.Context, points []store.Point) {
	if len(points) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	if n.cache != nil {
		if err := n.cache.Put(ctx, points); err != nil {
			n.counts.cacheFailed.Add(uint64(len(points)))
			if n.log.IsDebug() {
				n.log.Debug("points not cached", "error", err, "points", len(points))
			}
		}
	}
	if n.publisher != nil {
		n.publish(ctx, newest(points))
	}
}

// publish sends one event per point; after the first failure the others are
// counted as skipped.
func (n *news) publish(ctx context.Context, points []store.Point) {
	for i, p := range points {
		if time.Now().Before(n.resume) {
			n.counts.skipped.Add(uint64(len(points) - i))
			return
		}
		body, err := json.Marshal(eventOf(p))
		if err == nil {
			err = n.publisher.Publish(ctx, Topic+p.Series, body)
		}
		if err != nil {
			n.counts.publishFailed.Add(1)
			n.resume = time.Now().Add(newsPause)
			if n.log.IsDebug() {
				n.log.Debug("point not published", "error", err, "series", p.Series)
			}
			continue
		}
		n.counts.published.Add(1)
	}
}

// newest keeps, of each series and window, the point with the latest start:
// history that was loaded at once is for those who read, not for subscribers.
func newest(points []store.Point) []store.Point {
	type line struct {
		series string
		window store.Window
	}
	at := make(map[line]int)
	var kept []store.Point
	for _, p := range points {
		l := line{p.Series, p.Window}
		i, ok := at[l]
		switch {
		case !ok:
			at[l] = len(kept)
			kept = append(kept, p)
		case !p.Start.Before(kept[i].Start):
			kept[i] = p
		}
	}
	return kept
}

// event is the payload of Topic. The order of its fields is part of the contract.
type event struct {
	Series string       `json:"series"`
	Window store.Window `json:"window"`
	Start  string       `json:"start"` // RFC 3339, UTC
	Count  int64        `json:"count"`
	Sum    float64      `json:"sum"`
	Min    float64      `json:"min"`
	Max    float64      `json:"max"`
	Mean   float64      `json:"mean"`
	Last   float64      `json:"last"`
	Rev    int64        `json:"rev"`
}

func eventOf(p store.Point) event {
	return event{p.Series, p.Window, p.Start.UTC().Format(time.RFC3339),
		p.Count, p.Sum, p.Min, p.Max, p.Mean, p.Last, p.Rev}
}
