package transform

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// DirtyTopic is the topic of the hint that rows wait for the roll-up.
const DirtyTopic = "dirty"

const (
	hintTimeout = 100 * time.Millisecond // longer, and the hint would delay the answer more than it is worth
	hintPause   = time.Second            // after a failure: a broker that is away must not slow every answer
	maxHinted   = 1000                   // names in one hint; it is a hint for all series anyway
)

// hinter publishes hints. Losing one is harmless: the roll-up looks by itself.
type hinter struct {
	publisher Publisher
	log       hclog.Logger
	counts    *counters
	resume    atomic.Int64 // Unix nanoseconds until which no hint is tried
}

func (h *hinter) hint(ctx context.Context, series []string) {
	if h.publisher == nil || len(series) == 0 {
		return
	}
	if time.Now().UnixNano() < h.resume.Load() {
		h.counts.hintsSkipped.Add(1)
		return
	}
	body, err := json.Marshal(struct {
		Series []string `json:"series"`
	}{series[:min(len(series), maxHinted)]})
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, hintTimeout)
		defer cancel()
		err = h.publisher.Publish(ctx, DirtyTopic, body)
	}
	if err != nil {
		h.counts.hintsFailed.Add(1)
		h.resume.Store(time.Now().Add(hintPause).UnixNano())
		if h.log.IsDebug() {
			h.log.Debug("hint not published", "error", err)
		}
		return
	}
	h.counts.hintsSent.Add(1)
}
