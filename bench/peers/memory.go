package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/report"
	"github.com/mdmesh/mdmesh/client"
)

const (
	mib    = 1 << 20
	points = 10 // readings of memory over time
)

// settle waits before a broker's memory is read: long enough for buffers to shrink,
// where measurements are long.
func (b *bench) settle() { time.Sleep(min(3*time.Second, 4*b.duration)) }

// idle is the role of connections that were used once and then do nothing.
func idle(ctx context.Context, system, endpoint, number string, ready func()) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	for range n {
		switch system {
		case "mdmesh":
			c, err := client.New(client.Config{Brokers: []string{endpoint}})
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Call(ctx, "mmi.service", []byte(service)); err != nil {
				return err
			}
		case "nats":
			nc, err := nats.Connect(endpoint)
			if err != nil {
				return err
			}
			defer nc.Close()
			if err := nc.Flush(); err != nil {
				return err
			}
		}
	}
	ready()
	<-ctx.Done()
	return nil
}

// idle measures what idle peers take, and take from others.
func (b *bench) idle(ctx context.Context) error {
	r := &report.Idle{Peers: b.idlers}
	for name, to := range map[string]*float64{"mdmesh": &r.Octets, "nats": &r.NATS} {
		each, err := b.idleMemory(ctx, systems[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*to = each
	}
	for pair := range b.rounds {
		ratio, err := b.idlePair(ctx, pair%2 == 1)
		if err != nil {
			return err
		}
		fmt.Printf("%-9s with %d idle peers by without: %.2f\n", shapeIII.Name, b.idlers, ratio)
		r.Pairs = append(r.Pairs, ratio)
	}
	b.results.Idle = r
	return nil
}

func (b *bench) startIdlers(ctx context.Context, g *procs.Group, system, endpoint string) (*procs.Proc, error) {
	return g.Role(ctx, "idle", system, endpoint, strconv.Itoa(b.idlers))
}

func (b *bench) idleMemory(ctx context.Context, sys *system) (each float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	broker, endpoint, err := b.startBroker(ctx, &g, sys)
	if err != nil {
		return 0, err
	}
	// One client and one worker first, so that what every broker needs once is there.
	if _, err := g.Role(ctx, "worker", sys.name, endpoint, shapeI.String()); err != nil {
		return 0, err
	}
	b.settle()
	before, err := broker.Memory()
	if err != nil {
		return 0, err
	}
	if _, err := b.startIdlers(ctx, &g, sys.name, endpoint); err != nil {
		return 0, err
	}
	b.settle()
	after, err := broker.Memory()
	return float64(after.Resident-before.Resident) / float64(b.idlers), err
}

// idlePair is the rate of shape iii with idle peers by that without, with one broker.
func (b *bench) idlePair(ctx context.Context, idleFirst bool) (ratio float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*b.duration+2*time.Minute)
	defer cancel()
	var g procs.Group
	defer g.Stop()
	t, err := b.start(ctx, &g, systems["mdmesh"], shapeIII)
	if err != nil {
		return 0, err
	}
	var rates [2]float64
	for i, with := range []bool{idleFirst, !idleFirst} {
		var idlers *procs.Proc
		if with {
			if idlers, err = b.startIdlers(ctx, &g, "mdmesh", t.endpoint); err != nil {
				return 0, err
			}
		}
		s, err := t.measure(ctx)
		if err != nil {
			return 0, err
		}
		rates[i] = s.Rate
		if idlers != nil {
			idlers.Stop()
		}
	}
	if idleFirst {
		return rates[0] / rates[1], nil
	}
	return rates[1] / rates[0], nil
}

// memory watches the broker's memory over minutes of shape iii.
func (b *bench) memory(ctx context.Context) error {
	var g procs.Group
	defer g.Stop()
	t, err := b.start(ctx, &g, systems["mdmesh"], shapeIII)
	if err != nil {
		return err
	}
	r := &report.Memory{Minutes: b.minutes}
	length := time.Duration(b.minutes * float64(time.Minute))
	began := time.Now()
	for point := 0; point <= points; {
		m, err := t.broker.Memory()
		if err != nil {
			return err
		}
		if time.Since(began) >= length*time.Duration(point)/points {
			r.Resident = append(r.Resident, float64(m.Resident)/mib)
			point++
			fmt.Printf("%-9s after %v: broker %.1f MiB\n", shapeIII.Name, time.Since(began).Round(time.Second), float64(m.Resident)/mib)
		}
		r.Peak = float64(m.Peak) / mib
		s, err := t.measure(ctx)
		if err != nil {
			return err
		}
		r.Calls += int64(s.Rate * b.duration.Seconds())
	}
	b.results.Memory = r
	return nil
}

// serviceState is what the broker says of the service.
type serviceState struct {
	Name     string `json:"name"`
	Queue    int64  `json:"queue"`
	Octets   int64  `json:"octets"`
	Requests uint64 `json:"requests"`
	Busy     uint64 `json:"busy"`
}

func stateOf(ctx context.Context, c *client.Client) (s serviceState, err error) {
	reply, err := c.Call(ctx, "mmi.services")
	if err != nil {
		return s, err
	}
	var all []serviceState
	if err := json.Unmarshal(reply[len(reply)-1], &all); err != nil {
		return s, fmt.Errorf("read mmi.services: %w", err)
	}
	for _, one := range all {
		if one.Name == service {
			s = one
		}
	}
	return s, nil
}
