package main

import (
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// ofQueues are calls that nobody is free for.
var ofQueues = []injection{
	{fault: "nobody offers the service, and the caller does not wait", figures: []figure{{callerTold, "", "at once"}},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.NobodyThere(r, b) })},
	{fault: "100,000 requests are queued", figures: []figure{{"the next one is told BUSY", "", "at once"}},
		prepare: func(site *round) func(*round) []float64 {
			q := rig.FillQueue(site, rig.StartBroker(site), 100_000)
			return func(r *round) []float64 { return []float64{ms(q.Refused(r))} }
		}},
	{fault: "the deadline ends in the queue", figures: []figure{until("the caller is told, before or after it", 50*time.Millisecond)}, lanes: waiting,
		prepare: func(site *round) func(*round) []float64 {
			p := rig.Occupied(site, rig.StartBroker(site))
			return func(r *round) []float64 { return []float64{ms(p.Expire(r))} }
		}},
}

// ofSizes are messages at the limit and beyond.
var ofSizes = []injection{
	{fault: "request of 64 MiB", brief: true, figures: []figure{{"the broker's memory grows by, in sizes of it", "times", "2"}},
		prepare: freshBroker(func(r *round, b *rig.Broker) []float64 { return []float64{rig.Largest(r, b, false)} })},
	{fault: "request and answer of 64 MiB", figures: []figure{{"the broker's memory grows by, in sizes of both", "times", "2"}},
		prepare: freshBroker(func(r *round, b *rig.Broker) []float64 { return []float64{rig.Largest(r, b, true)} })},
	{fault: "request beyond 64 MiB", figures: []figure{{callerTold + ", its link lives", "", "at once"}},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.TooBig(r, b) })},
	{fault: "64 MiB and one octet are announced", figures: []figure{{"the link is ended", "", "at once"}, {"the broker's memory grows by", "KB", ""}},
		prepare: atBroker(func(r *round, b *rig.Broker) []float64 {
			took, grown := rig.AnnounceTooBig(r, b)
			return []float64{ms(took), float64(grown) / 1e3}
		})},
}

// ofBrokers are brokers that are short of something.
var ofBrokers = []injection{
	{fault: "no descriptors, then some", brief: true, figures: []figure{until("20 newcomers are in", time.Second)},
		prepare: timed(func(r *round, b *rig.Broker) time.Duration { return rig.OutOfDescriptors(r, b, 20) })},
	{fault: "SIGSTOP of the broker for 5 s", brief: true, lanes: waiting,
		figures: []figure{until("a waiting call is answered, after SIGCONT", 0), {"expiries", "sessions", "0"}},
		prepare: freshBroker(func(r *round, b *rig.Broker) []float64 {
			o, expired, took := rig.PauseAmongIdle(r, b, 5*time.Second)
			if o.Err != nil {
				r.Fatal(o.Err)
			}
			return []float64{ms(took), float64(expired)}
		})},
}

const (
	clients   = 2000   // that a restarted broker finds again
	multitude = 10_000 // connections
	// hold is how long the live ones are watched, in which each of them beats twice.
	hold = 24 * time.Second
)

var ofCrowds = []injection{
	{fault: "kill -9 of the broker of 2,000 clients", brief: true, figures: []figure{until("all are back, after the new one listens", 5*time.Second)},
		prepare: func(site *round) func(*round) []float64 {
			c := rig.StartCrowd(site, clients)
			return func(*round) []float64 { return []float64{ms(c.Restart(site))} }
		}},
	{fault: "10,000 connections that say nothing", rounds: 3, prepare: freshBroker(silent),
		figures: append(beside("p99 of another's handshake", "2"), figure{"the broker's memory grows by, for each", "KB", "10"},
			figure{"in a handshake at once", "connections", "1024"})},
	{fault: "10,000 idle clients", brief: true, rounds: 3, prepare: freshBroker(live),
		figures: []figure{{"memory of each", "KB", "40"}, {"their heartbeats take, of a core", "%", "5"}}},
}

// silent measures handshakes beside those who never finish theirs, and what these cost.
func silent(r *round, b *rig.Broker) []float64 {
	s := rig.Silent(r, b, multitude)
	return append(compared(s.Without, s.With), float64(s.Each)/1e3, float64(s.Shaking))
}

// live measures what clients cost that do nothing but live.
func live(r *round, b *rig.Broker) []float64 {
	crowd, each := rig.Live(r, b, multitude)
	begun := time.Now()
	used := cpu(r, b)
	<-time.After(hold) // what is measured
	used = cpu(r, b) - used
	share := 100 * float64(used) / float64(time.Since(begun))
	if n := b.State(r).Connections; n < multitude {
		r.Fatalf("%d connections are left", n)
	}
	crowd.Signal(r, syscall.SIGKILL)
	return []float64{float64(each) / 1e3, share}
}

// cpu is the time a broker has used.
func cpu(r *round, b *rig.Broker) time.Duration {
	used, err := procs.CPU(b.PID())
	if err != nil {
		r.Fatal(err)
	}
	return used
}
