package main

import (
	"cmp"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mdmesh/mdmesh/broker"
)

// maxLabelled bounds the services with figures of their own; those beyond, in the
// order of their names, are summed up as otherServices, so that made-up names make
// no more series.
const (
	maxLabelled   = 200
	otherServices = "other" // as is a service of that name
)

// collector renders the broker's counters and levels as Prometheus text. Labels
// are bounded: services by maxLabelled, nothing per client.
type collector struct {
	b       *broker.Broker
	counts  map[string]*prometheus.Desc // by the counter's name
	drops   *prometheus.Desc
	waits   *prometheus.Desc
	runs    *prometheus.Desc
	queue   *prometheus.Desc
	oldest  *prometheus.Desc
	workers *prometheus.Desc
	running *prometheus.Desc
	links   *prometheus.Desc
	state   *prometheus.Desc
	rtt     *prometheus.Desc
	conns   *prometheus.Desc
	octets  *prometheus.Desc
	partly  *prometheus.Desc
	unread  *prometheus.Desc
}

// metrics is the handler for GET /metrics.
func metrics(b *broker.Broker) http.Handler {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mdmesh_broker_"+name, help, labels, nil)
	}
	counts := make(map[string]*prometheus.Desc)
	for name := range b.Counters() {
		if broker.IsDrop(name) {
			continue
		}
		counts[name] = desc(name+"_total", "Counter "+name+" of /state.")
	}
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{
		b:       b,
		counts:  counts,
		drops:   desc("drops_total", "What was dropped or refused, by the name of its counter in /state.", "reason"),
		waits:   desc("wait_seconds", "Time from a request's entry to its first dispatch.", "service"),
		runs:    desc("run_seconds", "Time from a request's dispatch to the answer of a handler.", "service"),
		queue:   desc("queue_requests", "Requests waiting for a worker.", "service"),
		oldest:  desc("queue_oldest_seconds", "Age of the oldest waiting request.", "service"),
		workers: desc("workers", "Worker sessions.", "service"),
		running: desc("running_requests", "Requests given to a worker or peer and not answered.", "service"),
		links:   desc("peer_up", "1 if there is a link to the peer, even a slow or blocked one.", "peer"),
		state:   desc("peer_state", "1 for the state the link to the peer is in.", "peer", "state"),
		rtt:     desc("peer_round_trip_seconds", "Round trip over the link to the peer.", "peer"),
		conns:   desc("connections", "Open connections on the requests endpoint."),
		octets:  desc("held_octets", "Octets of all requests held."),
		partly:  desc("unfinished_octets", "Octets of memory for large messages that have not come whole."),
		unread:  desc("unread_octets", "Octets that wait for peers which do not read as fast as they come."),
	})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.counts {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{c.drops, c.waits, c.runs, c.queue, c.oldest, c.workers, c.running, c.links, c.state, c.rtt, c.conns, c.octets, c.partly, c.unread} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := c.b.State()
	for name, n := range st.Counters {
		if broker.IsDrop(name) {
			ch <- prometheus.MustNewConstMetric(c.drops, prometheus.CounterValue, float64(n), name)
		} else {
			ch <- prometheus.MustNewConstMetric(c.counts[name], prometheus.CounterValue, float64(n))
		}
	}
	for name, s := range labelled(st.Services) {
		ch <- histogram(c.waits, &s.Waits, name)
		ch <- histogram(c.runs, &s.Runs, name)
		gauge(c.queue, float64(s.Queue), name)
		gauge(c.oldest, float64(s.OldestMs)/1e3, name)
		gauge(c.workers, float64(s.Workers), name)
		gauge(c.running, float64(s.Running), name)
	}
	for name, p := range linkStates(st.Peers) {
		up := 1.0
		if p.State == "down" {
			up = 0
		}
		gauge(c.links, up, name)
		gauge(c.state, 1, name, p.State)
		gauge(c.rtt, float64(p.RTTUs)/1e6, name)
	}
	gauge(c.conns, float64(st.Connections))
	gauge(c.octets, float64(st.HeldOctets))
	gauge(c.partly, float64(st.Unfinished))
	gauge(c.unread, float64(st.Unread))
}

// labelled gives each service its label, and sums up those beyond the bound.
func labelled(services []broker.ServiceState) map[string]*broker.ServiceState {
	out := make(map[string]*broker.ServiceState, min(len(services), maxLabelled)+1)
	for i, s := range services {
		name := otherServices
		if i < maxLabelled {
			name = printable(s.Name)
		}
		sum := out[name]
		if sum == nil {
			out[name] = &s
			continue
		}
		sum.Queue += s.Queue
		sum.OldestMs = max(sum.OldestMs, s.OldestMs)
		sum.Workers += s.Workers
		sum.Running += s.Running
		sum.Waits.Merge(&s.Waits)
		sum.Runs.Merge(&s.Runs)
	}
	return out
}

// firstBound is the lowest bucket that is rendered: 64 us. Times below are of no
// interest apart.
const firstBound = 6

// histogram renders a histogram of the broker; the last bucket is Prometheus's own.
func histogram(d *prometheus.Desc, h *broker.Histogram, service string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Buckets))
	below := uint64(0)
	for i, n := range h.Buckets[:len(h.Buckets)-1] {
		below += n
		if i >= firstBound {
			buckets[float64(broker.HistogramBound(i))/1e6] = below
		}
	}
	return prometheus.MustNewConstHistogram(d, h.Count, float64(h.SumUs)/1e6, buckets, service)
}

// linkStates has one entry for each peer: several endpoints may lead to one.
func linkStates(peers []broker.LinkState) map[string]broker.LinkState {
	states := make(map[string]broker.LinkState)
	for _, p := range peers {
		name := printable(cmp.Or(p.Name, p.Endpoint))
		if old, known := states[name]; !known || old.State == "down" {
			states[name] = p
		}
	}
	return states
}

// printable makes a label of a name that may hold any octets; two names never give
// one label.
func printable(name string) string {
	if quoted := strconv.QuoteToGraphic(name); quoted != `"`+name+`"` || !utf8.ValidString(name) {
		return quoted
	}
	return name
}
