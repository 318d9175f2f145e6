package main

import (
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// moved is what is promised where a worker ends while it holds a request.
const moved = 100 * time.Millisecond

var ofWorkers = []injection{
	{fault: "kill -9 of an idle worker", brief: true, figures: []figure{until("out of the rotation", 50*time.Millisecond)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration {
			_, took := rig.KillIdle(r, b)
			return took
		})},
	{fault: "kill -9 of a worker, request unread", figures: []figure{until(another, moved)}, prepare: killHolding(rig.BeforeRead)},
	{fault: "kill -9 of a worker, request just read", figures: []figure{until(another, moved)}, prepare: killHolding(rig.AfterRead)},
	{fault: "kill -9 of a worker, request running", brief: true, figures: []figure{until(another, moved)}, prepare: killHolding(rig.Running)},
	{fault: "kill -9 of a worker, answer half written", figures: []figure{until(another, moved)}, prepare: killHolding(rig.MidReply)},
	{fault: "at most once: request unread", figures: []figure{until(callerTold, moved)}, prepare: killHoldingOnce(rig.BeforeRead)},
	{fault: "at most once: request just read", figures: []figure{until(callerTold, moved)}, prepare: killHoldingOnce(rig.AfterRead)},
	{fault: "at most once: request running", brief: true, figures: []figure{until(callerTold, moved)}, prepare: killHoldingOnce(rig.Running)},
	{fault: "at most once: answer half written", figures: []figure{until(callerTold, moved)}, prepare: killHoldingOnce(rig.MidReply)},
	{fault: "SIGSTOP of an idle worker", brief: true, figures: []figure{until(another, 500*time.Millisecond)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.StopIdle(r, b)
			return served(r, 2, o, took)
		})},
	{fault: "SIGSTOP of a worker that has just begun", figures: []figure{until(another, 4*time.Second)}, lanes: waiting, prepare: stopBusy(0)},
	{fault: "SIGSTOP of a worker that has run for 1 s", brief: true, figures: []figure{until(another, 4*time.Second)}, lanes: waiting, prepare: stopBusy(time.Second)},
}

const callerTold = "the caller is told"

func killHolding(moment string) func(*round) func(*round) []float64 {
	return timed(func(r *round, b *rig.Broker) time.Duration {
		_, o, took := rig.KillHolding(r, b, moment, false)
		return served(r, 2, o, took)
	})
}

func killHoldingOnce(moment string) func(*round) func(*round) []float64 {
	return timed(func(r *round, b *rig.Broker) time.Duration {
		_, o, took := rig.KillHolding(r, b, moment, true)
		return told(r, mdp.WorkerLost, o, took)
	})
}

func stopBusy(ran time.Duration) func(*round) func(*round) []float64 {
	return timed(func(r *round, b *rig.Broker) time.Duration {
		_, o, took := rig.StopBusy(r, b, ran)
		return served(r, 2, o, took)
	})
}

// ofHolders are other ways of losing who holds a request.
var ofHolders = []injection{
	{fault: "kill -9 of a worker that runs a program (`mdworker exec`)", figures: []figure{until("the program is dead", 0), until(another, moved)},
		prepare: atBroker(func(r *round, b *rig.Broker) []float64 {
			dead, answered := rig.KillExec(r, b)
			return []float64{ms(dead), ms(answered)}
		})},
	{fault: "an MDP/0.2 worker's connection is closed, request running", brief: true, figures: []figure{until("another is given it", moved)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.CloseForeign(r, b) })},
	{fault: "one of two workers of the same instance id is closed, request running", figures: []figure{until("the other is given it", moved)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.CloseTwin(r, b) })},
}

// ofHandlers are requests that do their worker harm.
var ofHandlers = []injection{
	{fault: "handler that hangs", brief: true, figures: []figure{until("the caller is told, before or after its deadline", 50*time.Millisecond)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.Hang(r, b, "stubborn")
			return told(r, mdp.Expired, o, took)
		})},
	{fault: "request that kills each worker", brief: true, figures: []figure{until(callerTold, 0), {"workers it has killed", "workers", "3"}},
		prepare: atBroker(func(r *round, b *rig.Broker) []float64 {
			o, dead, took := rig.Poison(r, b)
			return []float64{ms(told(r, mdp.WorkerLost, o, took)), float64(dead)}
		})},
	{fault: "kill -9 of a client with 100 requests", brief: true, figures: []figure{until("all are dropped", 50*time.Millisecond)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration {
			_, took := rig.KillClient(r, b, 100)
			return took
		})},
}
