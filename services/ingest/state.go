package ingest

import "sync/atomic"

// count names a thing that is counted; each reason has its own.
type count int

const (
	countConnAccepted count = iota
	countConnRefused
	countConnBroken
	countConnUnheard
	countConnTooSlow
	countConnTooBad
	countAcceptFailed
	countLines
	countMalformed
	countTooLong
	countInserted
	countDuplicate
	countRevised
	countConflict
	countRefused
	countUnanswered
	countAbandoned
	countCalls
	countRetry
	countEnd
)

// countNames are the names under which State shows them.
var countNames = [countEnd]string{
	countConnAccepted: "connections_accepted", // served
	countConnRefused:  "connections_refused",  // over MaxConnections
	countConnBroken:   "connections_broken",   // reading failed
	countConnUnheard:  "connections_unheard",  // writing answers failed or took longer than WriteTimeout
	countConnTooSlow:  "connections_too_slow", // a line took longer than LineTimeout
	countConnTooBad:   "connections_too_bad",  // MaxBad unreadable lines in a row
	countAcceptFailed: "accept_failed",
	countLines:        "lines",           // blank ones not counted
	countMalformed:    "lines_malformed", // answered with what is wrong
	countTooLong:      "lines_too_long",
	countInserted:     "records_inserted",
	countDuplicate:    "records_duplicate",
	countRevised:      "records_revised",
	countConflict:     "records_conflict",
	countRefused:      "records_refused",    // transform answered an error for this record
	countUnanswered:   "records_unanswered", // the connection ended before the answer was written
	countAbandoned:    "records_abandoned",  // no further try, because nobody is left to hear it
	countCalls:        "calls",
	countRetry:        "calls_failed", // each is followed by another try, unless abandoned
}

// counts only grow.
type counts [countEnd]atomic.Uint64

func (c *counts) add(which count) { c[which].Add(1) }

func (c *counts) addN(which count, n int) { c[which].Add(uint64(n)) }

// State is a snapshot for people and for metrics.
type State struct {
	Connections int               `json:"connections"`
	Unanswered  int               `json:"unanswered"` // lines over all connections
	HeldBytes   int64             `json:"held_bytes"` // of MaxHeld
	Calls       int64             `json:"calls"`      // batches under way, those between two tries included
	Totals      map[string]uint64 `json:"totals"`     // since the start, by name
}

// State returns a snapshot. The parts are read one after the other, so they may
// disagree by what happened meanwhile.
func (s *Server) State() State {
	st := State{
		HeldBytes: s.heldNow.Load(),
		Calls:     s.batching.Load(),
		Totals:    make(map[string]uint64, countEnd),
	}
	for i, name := range countNames {
		st.Totals[name] = s.counts[i].Load()
	}
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	st.Connections = len(conns)
	for _, c := range conns {
		st.Unanswered += c.unanswered()
	}
	return st
}
