package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/ingest/record"
)

// firstBackoff is the upper end of the first pause between tries.
const firstBackoff = 50 * time.Millisecond

// maxErrorText bounds what transform says about a record, in octets.
const maxErrorText = 512

const (
	// wholeTries is how many calls may break transform before their batch is cut in
	// two: a worker may be lost for reasons of its own.
	wholeTries = 4
	// partTries is the same for a part of a batch.
	partTries = 3
	// aloneTries is how often a record may break transform that answers for others.
	aloneTries = 5
	// maxAlone bounds the records that are tried alone, beside the batches.
	maxAlone = 64
)

var errBadReply = errors.New("transform's reply does not fit the batch")

// outcome is transform's answer for one record.
type outcome struct {
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

// deliver calls transform until it has answered for every record of b, nobody
// is left to hear it, or work ends. Each try carries the same ids, so a try
// whose reply was lost does no harm. What is left in b.alone is to be delivered
// by deliverAlone.
func (s *Server) deliver(work context.Context, b *batch) {
	b.alone = s.deliverItems(work, b.items, wholeTries)
}

// deliverItems is deliver for a batch or a part of one, which is cut in two once
// tries calls have broken transform. It returns the records that broke transform
// while they were alone in a call.
func (s *Server) deliverItems(work context.Context, items []item, tries int) (alone []item) {
	body := join(items)
	for failed := 0; ; failed++ {
		outcomes, err := s.call(work, items, body)
		if err == nil {
			s.answer(items, outcomes)
			return nil
		}
		if refused(err) {
			if len(items) > 1 {
				return s.split(work, items)
			}
			s.refuseRecord(items[0], err.Error())
			return nil
		}
		s.outage.Began(err)
		if !s.again(work, items, failed, err) {
			return nil
		}
		if !broke(err) {
			continue
		}
		if tries--; tries > 0 {
			continue
		}
		if len(items) > 1 {
			return s.split(work, items)
		}
		select {
		case s.places <- struct{}{}:
			return items
		default: // too many are alone already: this one keeps its batch's place
		}
	}
}

// deliverAlone is deliver for one record that has broken transform alone. Such a
// record is not lost by waiting, and only its own client waits with it. It is
// refused once it has broken transform aloneTries times, each time after an answer
// to others: then it is the record, not transform, and waiting is in vain. It is no
// outage.
func (s *Server) deliverAlone(work context.Context, it item) {
	items, body := []item{it}, join([]item{it})
	before := s.answered.Load()
	for broken, failed := 0, wholeTries; ; failed++ {
		outcomes, err := s.call(work, items, body)
		if err == nil {
			s.answer(items, outcomes)
			return
		}
		if refused(err) {
			s.refuseRecord(it, err.Error())
			return
		}
		if now := s.answered.Load(); broke(err) && now != before {
			before = now
			broken++
		}
		if broken >= aloneTries {
			s.log.Warn("transform fails on a record again and again, its client is told", "record", shorten(string(it.line)), "error", err)
			s.refuseRecord(it, "transform fails on this record and answers for others; whether it is stored is not known: "+err.Error())
			return
		}
		if !s.again(work, items, failed, err) {
			return
		}
	}
}

// again waits for the time of the next try. False means that there will be none:
// work has ended, or nobody is left to hear the answer.
func (s *Server) again(work context.Context, items []item, failed int, err error) bool {
	s.counts.add(countRetry)
	if work.Err() != nil || allGone(items) {
		s.counts.addN(countAbandoned, len(items))
		return false
	}
	pause(work, s.backoff(failed, err))
	return true
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
	s.outage.Over()
	s.answered.Add(1)
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

// broke tells that transform took the batch and came to no answer, which one
// record of it may be to blame for.
func broke(err error) bool {
	return errors.Is(err, mdp.AppError) || errors.Is(err, mdp.Internal) || errors.Is(err, mdp.WorkerLost)
}

// split finds the record that an error is about, so that no other suffers.
func (s *Server) split(work context.Context, items []item) (alone []item) {
	half := len(items) / 2
	alone = s.deliverItems(work, items[:half], partTries)
	return append(alone, s.deliverItems(work, items[half:], partTries)...)
}

// refuseRecord answers that a record is not taken.
func (s *Server) refuseRecord(it item, text string) {
	s.counts.add(countRefused)
	it.conn.finish(it.slot, record.Answer{Error: shorten(text)})
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
