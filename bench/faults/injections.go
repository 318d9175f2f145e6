package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// injection is one fault, how it is provoked and what is measured of it.
type injection struct {
	fault   string
	figures []figure
	lanes   int  // rounds at once; more than 1 where rounds mostly wait
	rounds  int  // at most; 0: as many as are wanted
	brief   bool // the README has it
	// prepare makes what all rounds share and returns what is repeated: it provokes
	// the fault and returns a value for each of the figures.
	prepare func(site *round) func(*round) []float64
}

// figure is one of an injection's.
type figure struct {
	measured string
	unit     string // "": ms
	promise  string // "": none
}

// injections are all of them, in the order of the table.
var injections = slices.Concat(ofWorkers, ofHolders, ofHandlers, ofLinks, ofSlowness, ofQueues, ofSizes, ofBrokers, ofCrowds)

// waiting is how many rounds run at once where each waits for seconds.
const waiting = 10

const another = "another worker has answered"

// until is the time until something is so, and what is promised of it; 0: nothing.
func until(what string, promise time.Duration) figure {
	f := figure{measured: what}
	if promise > 0 {
		f.promise = fmt.Sprintf("%g", ms(promise))
	}
	return f
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// timed is for injections of a single figure, a time.
func timed(provoke func(*round, *rig.Broker) time.Duration) func(*round) func(*round) []float64 {
	return atBroker(func(r *round, b *rig.Broker) []float64 { return []float64{ms(provoke(r, b))} })
}

// atBroker shares one broker among rounds.
func atBroker(provoke func(*round, *rig.Broker) []float64) func(*round) func(*round) []float64 {
	return func(site *round) func(*round) []float64 {
		b := rig.StartBroker(site)
		return func(r *round) []float64 { return provoke(r, b) }
	}
}

// freshBroker starts one for each round, for what a broker remembers.
func freshBroker(provoke func(*round, *rig.Broker) []float64) func(*round) func(*round) []float64 {
	return func(*round) func(*round) []float64 {
		return func(r *round) []float64 { return provoke(r, rig.StartBroker(r)) }
	}
}

// served is the time of a call that must have been answered in this attempt.
func served(r *round, attempt int, o rig.Outcome, took time.Duration) time.Duration {
	if o.Err != nil || o.Attempt != attempt {
		r.Fatalf("answered in attempt %d: %v; want attempt %d", o.Attempt, o.Err, attempt)
	}
	return took
}

// told is the time of a call that must have ended with this status.
func told(r *round, status mdp.Status, o rig.Outcome, took time.Duration) time.Duration {
	if !errors.Is(o.Err, status) {
		r.Fatalf("ended with %v; want %v", o.Err, status)
	}
	return took
}
