package rig

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Crowd is many clients, in processes of their own, of a broker that can be killed
// and started again at the same place.
type Crowd struct {
	*Broker
	Service string
	Size    int
	parts   []*meshproc.Process
	rounds  int
	listen  string
}

// partSize is how many clients one process has: each needs several goroutines, and
// the race detector allows 8,128.
const partSize = 500

// StartCrowd starts a broker, a worker and clients (a multiple of 500), and waits
// until each of them has been answered.
func StartCrowd(t testing.TB, clients int) *Crowd {
	t.Helper()
	c := &Crowd{Service: Fresh(), Size: clients, listen: fmt.Sprintf("tcp://127.0.0.1:%d", meshproc.FreePorts(t, 1))}
	c.Broker = StartBrokerAt(t, c.listen)
	Worker(t, c.Requests, c.Service, Set(actor.Concurrency, 64))
	for range clients / partSize {
		// A round takes a while, so that there is something under way in it.
		c.parts = append(c.parts, Actor(t, "crowd", c.Requests, c.Service, Set(actor.Count, partSize), Set(actor.Body, "sleep 20ms")))
	}
	c.Answered(t)
	return c
}

// Order lets every client call once, a few of them at a time.
func (c *Crowd) Order(t testing.TB) {
	t.Helper()
	for _, p := range c.parts {
		p.Signal(t, syscall.SIGUSR1)
	}
}

// Answered waits until all clients have been answered in this round, and returns how
// many of them by a later attempt than the first.
func (c *Crowd) Answered(t testing.TB) (again int) {
	t.Helper()
	c.rounds++
	for _, p := range c.parts {
		rest := p.Line(t, fmt.Sprintf("round %d answered %d, again ", c.rounds, partSize))
		n, err := strconv.Atoi(rest)
		if err != nil {
			t.Fatal(err)
		}
		again += n
	}
	return again
}

// Ask lets every client call once and waits until all are answered.
func (c *Crowd) Ask(t testing.TB) {
	t.Helper()
	c.Order(t)
	c.Answered(t)
}

// Restart kills the broker and starts another one at the same place: how long, from
// when that one listens, until every client and the worker is back.
func (c *Crowd) Restart(t testing.TB) time.Duration {
	t.Helper()
	c.Kill(t)
	c.Broker = StartBrokerAt(t, c.listen)
	return c.Await(t, "all are back", func(st broker.State) bool {
		return st.Connections == c.Size+1 && find(st, c.Service).Workers == 1
	})
}
