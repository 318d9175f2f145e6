package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/ingest/record"
)

// firstBackoff is the upper end of the first pause between tries.
const firstBackoff = 50 * time.Millisecond

// maxErrorText bounds what transform says about a record, in octets.
const maxErrorText = 512

var errBadReply = errors.New("transform's reply does not fit the batch")

// outcome is transform's answer for one record.
type outcome struct {
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

// deliver calls transform until it has answered for every record of b, nobody
// is left to hear it, or work ends. Each try carries the same ids, so a try
// whose reply was lost does no harm.
func (s *Server) deliver(work context.Context, b *batch) {
	s.deliverItems(work, b.items)
}

func (s *Server) deliverItems(work context.Context, items []item) {
	body := join(items)
	for try := 0; ; try++ {
		outcomes, err := s.call(work, items, body)
		if err == nil {
			s.outage.over()
			s.answer(items, outcomes)
			return
		}
		if refused(err) {
			s.split(work, items, err)
			return
		}
		s.counts.add(countRetry)
		s.outage.began(err)
		if work.Err() != nil || allGone(items) {
			s.counts.addN(countAbandoned, len(items))
			return
		}
		pause(work, s.backoff(try, err))
	}
}

// call makes one try.
func (s *Server) call(work context.Context, items []item, body []byte) ([]outcome, error) {
	ctx, cancel := context.WithTimeout(work, s.cfg.CallTimeout)
	defer cancel()
	s.counts.add(countCalls)
	reply, err := s.cfg.Caller.Call(ctx, Service, body)
	if err != nil {
		return nil, fmt.Errorf("call %s with %d records: %w", Service, len(items), err)
	}
	var outcomes []outcome
	if err := json.Unmarshal(bytes.Join(reply, nil), &outcomes); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadReply, err)
	}
	if len(outcomes) != len(items) {
		return nil, fmt.Errorf("%w: %d answers for %d records", errBadReply, len(outcomes), len(items))
	}
	for _, o := range outcomes {
		if o.Error == "" && !known[o.Outcome] {
			return nil, fmt.Errorf("%w: unknown outcome %q", errBadReply, o.Outcome)
		}
	}
	return outcomes, nil
}

// known are the outcomes transform may name.
var known = map[string]bool{"inserted": true, "duplicate": true, "revised": true, "conflict": true}

// answer finishes the slots of items.
func (s *Server) answer(items []item, outcomes []outcome) {
	for i, it := range items {
		o := outcomes[i]
		a := record.Answer{OK: true}
		switch {
		case o.Error != "":
			s.counts.add(countRefused)
			a = record.Answer{Error: shorten(o.Error)}
		case o.Outcome == "conflict":
			s.counts.add(countConflict)
			a = record.Answer{Error: "conflict"}
		case o.Outcome == "duplicate":
			s.counts.add(countDuplicate)
		case o.Outcome == "revised":
			s.counts.add(countRevised)
		default:
			s.counts.add(countInserted)
		}
		it.conn.finish(it.slot, a)
	}
}

// refused tells that sending the same batch again cannot help.
func refused(err error) bool {
	return errors.Is(err, mdp.BadRequest) || errors.Is(err, mdp.TooBig)
}

// split finds the record that a refusal is about, so that no other suffers.
func (s *Server) split(work context.Context, items []item, err error) {
	if len(items) > 1 {
		half := len(items) / 2
		s.deliverItems(work, items[:half])
		s.deliverItems(work, items[half:])
		return
	}
	s.counts.add(countRefused)
	items[0].conn.finish(items[0].slot, record.Answer{Error: shorten(err.Error())})
}

// backoff draws the pause before the next try: anything up to a limit that
// doubles, and no less than the other side asked for.
func (s *Server) backoff(try int, err error) time.Duration {
	limit := min(s.cfg.MaxBackoff, firstBackoff<<min(try, 10))
	d := rand.N(limit) + 1
	var e *mdp.Error
	if errors.As(err, &e) {
		d = max(d, min(e.RetryAfter, time.Minute))
	}
	return d
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// allGone tells that no client is left to be answered.
func allGone(items []item) bool {
	for _, it := range items {
		if !it.conn.gone() {
			return false
		}
	}
	return true
}

// join makes the body of a call: one line per record.
func join(items []item) []byte {
	size := 0
	for _, it := range items {
		size += len(it.line) + 1
	}
	body := make([]byte, 0, size)
	for _, it := range items {
		body = append(append(body, it.line...), '\n')
	}
	return body
}

// shorten keeps an error text within bounds.
func shorten(text string) string {
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}

// outage says once that transform fails and once that it answers again, however
// many batches notice.
type outage struct {
	log hclog.Logger

	mu sync.Mutex
	// guards the following
	since time.Time // zero: all is well
}

func (o *outage) began(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		o.log.Warn("transform does not answer, records wait", "error", err)
	}
}

func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.log.Info("transform answers again", "after", time.Since(o.since))
		o.since = time.Time{}
	}
}
