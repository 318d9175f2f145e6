package main

import (
	"time"

	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// halfOpen is what is promised of links that lose what is said: 3 s and one beat.
const halfOpen = 4 * time.Second

var ofLinks = []injection{
	{fault: "what a busy worker says is lost", figures: []figure{until(another, halfOpen)}, lanes: waiting, prepare: halfOpenWorker(relay.Up)},
	{fault: "what a busy worker is told is lost", figures: []figure{until(another, halfOpen)}, lanes: waiting, prepare: halfOpenWorker(relay.Down)},
	{fault: "both are lost", brief: true, figures: []figure{until(another, halfOpen)}, lanes: waiting, prepare: halfOpenWorker(relay.Up, relay.Down)},
	{fault: "what an idle worker says is lost", figures: []figure{until(unlisted, halfOpen)}, lanes: waiting, prepare: halfOpenIdle(relay.Up)},
	{fault: "what an idle worker is told is lost", figures: []figure{until(unlisted, halfOpen)}, lanes: waiting, prepare: halfOpenIdle(relay.Down)},
	{fault: "both ways of an idle worker are lost", figures: []figure{until(unlisted, halfOpen)}, lanes: waiting, prepare: halfOpenIdle(relay.Up, relay.Down)},
	{fault: "what a waiting client says is lost", figures: []figure{until(cancelled, halfOpen)}, lanes: waiting, prepare: halfOpenClient(relay.Up)},
	{fault: "what a waiting client is told is lost", figures: []figure{until(cancelled, halfOpen)}, lanes: waiting, prepare: halfOpenClient(relay.Down)},
	{fault: "both ways of a waiting client are lost", brief: true, figures: []figure{until(cancelled, halfOpen)}, lanes: waiting, prepare: halfOpenClient(relay.Up, relay.Down)},
	{fault: "an answer is lost with its connection", figures: []figure{until("another try is answered", 0)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration {
			_, o, took := rig.LoseReply(r, b)
			return served(r, 2, o, took)
		})},
	{fault: "handshake that dribbles", figures: []figure{until("it is ended", 2*time.Second)}, lanes: waiting,
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.Dribble(r, b) })},
	{fault: "message that is begun and does not go on", figures: []figure{until("the link is ended", 30*time.Second)}, lanes: 30,
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.HalfMessage(r, b) })},
}

const (
	unlisted  = "out of the rotation"
	cancelled = "its request is cancelled"
)

func halfOpenWorker(ways ...relay.Direction) func(*round) func(*round) []float64 {
	return timed(func(r *round, b *rig.Broker) time.Duration {
		_, _, o, took := rig.HalfOpenWorker(r, b, ways...)
		return served(r, 2, o, took)
	})
}

func halfOpenIdle(ways ...relay.Direction) func(*round) func(*round) []float64 {
	return timed(func(r *round, b *rig.Broker) time.Duration { return rig.HalfOpenIdle(r, b, ways...) })
}

func halfOpenClient(ways ...relay.Direction) func(*round) func(*round) []float64 {
	return timed(func(r *round, b *rig.Broker) time.Duration {
		_, o, took := rig.HalfOpenClient(r, b, ways...)
		return served(r, 2, o, took)
	})
}

// few is how many rounds are made of what measures others for many seconds.
const few = 5

// beside is what others get without somebody who misbehaves, and beside him.
func beside(what, promise string) []figure {
	return []figure{until(what+" without", 0), until(what+" beside it", 0), {"ratio of the two", "times", promise}}
}

// compared are the values of beside.
func compared(without, with time.Duration) []float64 {
	return []float64{ms(without), ms(with), float64(with) / float64(without)}
}

// ofSlowness are those who do not read.
var ofSlowness = []injection{
	{fault: "client that reads none of its answers", brief: true, figures: beside("p99 of another's calls", "1 ± 0.1"), rounds: few,
		prepare: freshBroker(func(r *round, b *rig.Broker) []float64 { return compared(rig.SlowClient(r, b)) })},
	{fault: "subscriber that reads nothing", figures: beside("p99 of another's events", "1 ± 0.1"), rounds: few,
		prepare: freshBroker(func(r *round, b *rig.Broker) []float64 { return compared(rig.SlowSubscriber(r, b)) })},
}
