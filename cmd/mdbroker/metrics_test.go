package main

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mdmesh/mdmesh/broker"
)

// Two names never give one label: the whole answer would be refused.
func TestLabels(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, name := range []string{"echo", "grüße", "\xff", `"\xff"`, `\xff`, "a\nb", `a\nb`, `"`, " "} {
		label := printable(name)
		if other, taken := seen[label]; taken {
			t.Errorf("%q and %q are both %q", name, other, label)
		}
		seen[label] = name
	}
	if seen["echo"] != "echo" || seen["grüße"] != "grüße" {
		t.Error("plain names are changed")
	}
}

// Services beyond the bound are summed up under one label, and so is one of its name.
func TestServicesBeyondTheBound(t *testing.T) {
	t.Parallel()
	services := []broker.ServiceState{{Name: otherServices, Queue: 1, OldestMs: 7, Waits: broker.Histogram{Count: 1}}}
	for i := range 2 * maxLabelled {
		services = append(services, broker.ServiceState{Name: fmt.Sprint(i), Queue: 1, Running: 2, OldestMs: 5, Waits: broker.Histogram{Count: 1, SumUs: 3}})
	}
	got := labelled(services)
	other := got[otherServices]
	if len(got) != maxLabelled || other.Queue != maxLabelled+2 || other.OldestMs != 7 || other.Waits.Count != maxLabelled+2 {
		t.Errorf("%d labels, other %+v", len(got), other)
	}
	if first := got["0"]; first.Queue != 1 || first.Running != 2 {
		t.Errorf("a service of its own: %+v", first)
	}
}

// fixed is a collector of one metric.
type fixed struct{ prometheus.Metric }

func (f fixed) Describe(ch chan<- *prometheus.Desc) { ch <- f.Desc() }
func (f fixed) Collect(ch chan<- prometheus.Metric) { ch <- f.Metric }

// Buckets are cumulative, bounds in seconds, and the count holds what is beyond all.
func TestHistogram(t *testing.T) {
	t.Parallel()
	h := broker.Histogram{Count: 6, SumUs: 3_000_000}
	h.Buckets[0], h.Buckets[7], h.Buckets[20], h.Buckets[len(h.Buckets)-1] = 1, 2, 2, 1
	r := prometheus.NewRegistry()
	r.MustRegister(fixed{histogram(prometheus.NewDesc("x_seconds", "x", []string{"service"}, nil), &h, "s")})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	m := families[0].Metric[0].Histogram
	got := make(map[float64]uint64)
	for _, b := range m.Bucket {
		got[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	if got[64e-6] != 1 || got[128e-6] != 3 || got[1.048576] != 5 || m.GetSampleCount() != 6 || m.GetSampleSum() != 3 {
		t.Errorf("rendered as %v", m)
	}
}

// Several endpoints may lead to one peer.
func TestLinkStates(t *testing.T) {
	t.Parallel()
	got := linkStates([]broker.LinkState{
		{Name: "b", State: "down"}, {Name: "b", State: "up"}, {Name: "b", State: "down"},
		{Name: "c", State: "down"}, {Name: "c", State: "down"}, {Endpoint: "tcp://x:1", State: "down"},
	})
	states := make(map[string]string)
	for label, p := range got {
		states[label] = p.State
	}
	if want := map[string]string{"b": "up", "c": "down", "tcp://x:1": "down"}; !reflect.DeepEqual(states, want) {
		t.Errorf("got %v, want %v", states, want)
	}
}

// Nobody who asks for something takes for ever to read it.
func TestHTTPServerHasDeadlines(t *testing.T) {
	t.Parallel()
	b, err := broker.New(broker.Config{Listen: []string{"tcp://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := httpServer(b); s.WriteTimeout <= 0 || s.WriteTimeout > time.Minute || s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Errorf("deadlines: %v to write, %v for a head, %v idle", s.WriteTimeout, s.ReadHeaderTimeout, s.IdleTimeout)
	}
}
