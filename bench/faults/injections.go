package main

import (
	"errors"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// injection is one fault and how it is provoked.
type injection struct {
	fault, measured string
	promise         time.Duration // 0: none
	lanes           int           // rounds at once; more than 1 where rounds mostly wait
	// prepare makes what all rounds share and returns what is repeated: it provokes
	// the fault and returns how long it took to overcome it.
	prepare func(site *round) func(*round) time.Duration
}

// waiting is how many rounds run at once where each waits for seconds.
const waiting = 10

// clients is how many a restarted broker finds again.
const clients = 2000

const another = "another worker has answered"

// atBroker shares one broker among rounds.
func atBroker(provoke func(*round, *rig.Broker) time.Duration) func(*round) func(*round) time.Duration {
	return func(site *round) func(*round) time.Duration {
		b := rig.StartBroker(site)
		return func(r *round) time.Duration { return provoke(r, b) }
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

func killHolding(moment string) func(*round) func(*round) time.Duration {
	return atBroker(func(r *round, b *rig.Broker) time.Duration {
		_, o, took := rig.KillHolding(r, b, moment, false)
		return served(r, 2, o, took)
	})
}

func stopBusy(ran time.Duration) func(*round) func(*round) time.Duration {
	return atBroker(func(r *round, b *rig.Broker) time.Duration {
		_, o, took := rig.StopBusy(r, b, ran)
		return served(r, 2, o, took)
	})
}

func halfOpenWorker(ways ...relay.Direction) func(*round) func(*round) time.Duration {
	return atBroker(func(r *round, b *rig.Broker) time.Duration {
		_, _, o, took := rig.HalfOpenWorker(r, b, ways...)
		return served(r, 2, o, took)
	})
}

var injections = []injection{
	{fault: "kill -9 of an idle worker", measured: "out of the rotation", promise: 50 * time.Millisecond,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, took := rig.KillIdle(r, b)
			return took
		})},
	{fault: "kill -9 of a worker, request unread", measured: another, promise: 100 * time.Millisecond, prepare: killHolding(rig.BeforeRead)},
	{fault: "kill -9 of a worker, request running", measured: another, promise: 100 * time.Millisecond, prepare: killHolding(rig.Running)},
	{fault: "the same, at most once", measured: "the caller is told", promise: 100 * time.Millisecond,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.KillHolding(r, b, rig.Running, true)
			return told(r, mdp.WorkerLost, o, took)
		})},
	{fault: "SIGSTOP of an idle worker", measured: another, promise: 500 * time.Millisecond,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.StopIdle(r, b)
			return served(r, 2, o, took)
		})},
	{fault: "SIGSTOP of a worker that has just begun", measured: another, promise: 4 * time.Second, lanes: waiting, prepare: stopBusy(0)},
	{fault: "SIGSTOP of a worker that has run for 1 s", measured: another, promise: 4 * time.Second, lanes: waiting, prepare: stopBusy(time.Second)},
	{fault: "handler that hangs", measured: "the caller is told, before or after its deadline", promise: 50 * time.Millisecond,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.Hang(r, b, "stubborn")
			return told(r, mdp.Expired, o, took)
		})},
	{fault: "kill -9 of a client with 100 requests", measured: "all are dropped", promise: 50 * time.Millisecond,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, took := rig.KillClient(r, b, 100)
			return took
		})},
	{fault: "what a busy worker says is lost", measured: another, promise: 4 * time.Second, lanes: waiting, prepare: halfOpenWorker(relay.Up)},
	{fault: "what a busy worker is told is lost", measured: another, promise: 4 * time.Second, lanes: waiting, prepare: halfOpenWorker(relay.Down)},
	{fault: "both are lost", measured: another, promise: 4 * time.Second, lanes: waiting, prepare: halfOpenWorker(relay.Up, relay.Down)},
	{fault: "both ways of a waiting client are lost", measured: "its request is cancelled", promise: 4 * time.Second, lanes: waiting,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.HalfOpenClient(r, b, relay.Up, relay.Down)
			return served(r, 2, o, took)
		})},
	{fault: "an answer is lost with its connection", measured: "another try is answered",
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.LoseReply(r, b)
			return served(r, 2, o, took)
		})},
	{fault: "handshake that dribbles", measured: "it is ended", promise: 2 * time.Second, lanes: waiting,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration { return rig.Dribble(r, b) })},
	{fault: "no descriptors, then some", measured: "20 newcomers are in", promise: time.Second,
		prepare: atBroker(func(r *round, b *rig.Broker) time.Duration { return rig.OutOfDescriptors(r, b, 20) })},
	{fault: "SIGSTOP of the broker for 5 s", measured: "a waiting call is answered, after SIGCONT", lanes: waiting,
		prepare: func(*round) func(*round) time.Duration {
			return func(r *round) time.Duration {
				o, took := rig.Pause(r, rig.StartBroker(r), 5*time.Second)
				if o.Err != nil {
					r.Fatal(o.Err)
				}
				return took
			}
		}},
	{fault: "kill -9 of the broker of 2,000 clients", measured: "all are back, after the new one listens", promise: 5 * time.Second,
		prepare: func(site *round) func(*round) time.Duration {
			c := rig.StartCrowd(site, clients)
			return func(r *round) time.Duration { return c.Restart(site) }
		}},
}
