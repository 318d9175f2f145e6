// Package transform is the service that turns records into durable rows: the
// step between ingest and the store.
//
// The one invariant: an answer is given only for what the store has committed,
// so whoever asks again with the same ids after a lost answer does no harm, and
// one bad record costs none of the others.
//
// Start reading at Handle. Bodies and answers are in docs/DATA.md.
package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/services/outage"
	"github.com/mdmesh/mdmesh/store"
)

// Name is the service name on the mesh.
const Name = "transform"

// Bounds of one request; above them it is refused whole with TOO_BIG.
const (
	MaxRecords = 10_000
	MaxOctets  = 8 << 20
)

// retryAfter is the advice given while the store is unavailable.
const retryAfter = 100 * time.Millisecond

// Publisher sends events; *client.Client is one.
type Publisher interface {
	Publish(ctx context.Context, topic string, body ...[]byte) error
}

// Config is what a Service needs. Rows is required.
type Config struct {
	Rows      store.Rows
	Publisher Publisher    // of the hint to roll up; nil sends none
	Logger    hclog.Logger // nil logs nothing
}

// Service handles requests. It starts nothing and may be used by many goroutines.
type Service struct {
	rows     store.Rows
	hinter   hinter
	outage   *outage.Outage
	unusable chan error // capacity 1: why no request can be handled any more
	counts   counters
}

// New checks the Config and returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Rows == nil {
		return nil, errors.New("transform: Config.Rows is missing: open a store")
	}
	log := cfg.Logger
	if log == nil {
		log = hclog.NewNullLogger()
	}
	s := &Service{rows: cfg.Rows, outage: outage.New(log, "store fails, requests are refused", "store answers again"), unusable: make(chan error, 1)}
	s.hinter = hinter{publisher: cfg.Publisher, log: log, counts: &s.counts}
	return s, nil
}

// Run blocks until ctx ends, and then returns nil, or until Handle has found the
// store unusable (a damaged file): it returns that error, and the process should end.
func (s *Service) Run(ctx context.Context) error {
	select {
	case err := <-s.unusable:
		return fmt.Errorf("transform: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// item is the answer for one record.
type item struct {
	Outcome string `json:"outcome,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Handle commits the records in body, one JSON object per line, and answers one
// JSON array with an item per record, in their order. Empty lines are no records.
// It blocks for the commit. Errors: *mdp.Error with TOO_BIG (out of bounds) or
// BUSY (store unavailable, nothing was written, try again), or the store's own.
// It does not keep body.
func (s *Service) Handle(ctx context.Context, body [][]byte) ([][]byte, error) {
	s.counts.requests.Add(1)
	lines, err := split(body)
	if err != nil {
		return nil, err
	}
	items, records := s.parse(lines)
	outcomes, err := s.rows.Apply(ctx, records)
	s.note(ctx, err)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		s.counts.unavailable.Add(1)
		return nil, &mdp.Error{Status: mdp.Busy, Text: "transform: " + err.Error(), RetryAfter: retryAfter}
	case err != nil:
		return nil, fmt.Errorf("transform: apply %d records: %w", len(records), err)
	case len(outcomes) != len(records):
		return nil, fmt.Errorf("transform: the store answered %d outcomes for %d records", len(outcomes), len(records))
	}
	next := 0
	for i := range items {
		if items[i].Error == "" {
			items[i].Outcome = outcomes[next].String()
			next++
		}
	}
	s.counts.outcomes(outcomes)
	s.hinter.hint(ctx, changed(records, outcomes))
	answer, err := json.Marshal(items)
	if err != nil {
		return nil, fmt.Errorf("transform: encode the answer: %w", err)
	}
	return [][]byte{answer}, nil
}

// note says of the store what people and Run must know. A request that was given up
// says nothing of it.
func (s *Service) note(ctx context.Context, err error) {
	switch {
	case err == nil:
		s.outage.Over()
	case ctx.Err() == nil:
		s.outage.Began(err)
	}
	if errors.Is(err, store.ErrUnusable) {
		select {
		case s.unusable <- err:
		default: // told already
		}
	}
}

// split cuts the body into lines and holds it to its bounds.
func split(body [][]byte) ([][]byte, error) {
	size := 0
	for _, frame := range body {
		size += len(frame)
	}
	if size > MaxOctets {
		return nil, mdp.Errorf(mdp.TooBig, "transform: %d octets; send at most %d", size, MaxOctets)
	}
	var lines [][]byte
	for line := range bytes.Lines(bytes.Join(body, nil)) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(lines) == MaxRecords {
			return nil, mdp.Errorf(mdp.TooBig, "transform: more than %d records; send fewer at once", MaxRecords)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// parse reads the lines: an item for each, with its error where the line is bad,
// and the good records.
func (s *Service) parse(lines [][]byte) ([]item, []store.Record) {
	items := make([]item, len(lines))
	records := make([]store.Record, 0, len(lines))
	for i, line := range lines {
		r, err := parse(line)
		if err != nil {
			s.counts.refused.Add(1)
			items[i].Error = err.Error()
			continue
		}
		records = append(records, r)
	}
	return items, records
}

// parse reads one line. Ingest gives every record an id; without one, a resent
// record could not be told from a new one.
func parse(line []byte) (store.Record, error) {
	r, err := record.Parse(line)
	if err != nil {
		return r, err
	}
	if r.ID == "" {
		return r, &record.Error{Field: "id", Reason: "missing; transform wants an id in every record"}
	}
	return r, nil
}

// changed lists the series that got or revised a row, each once.
func changed(records []store.Record, outcomes []store.Outcome) []string {
	var series []string
	seen := make(map[string]bool)
	for i, o := range outcomes {
		name := records[i].Series
		if (o == store.Inserted || o == store.Revised) && !seen[name] {
			seen[name] = true
			series = append(series, name)
		}
	}
	return series
}
