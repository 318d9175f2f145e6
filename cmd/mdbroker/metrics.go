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

// collector renders the broker's counters and levels as Prometheus text. Labels
// are bounded: services by the broker's own bound, nothing per client.
type collector struct {
	b       *broker.Broker
	counts  map[string]*prometheus.Desc // by the counter's name
	queue   *prometheus.Desc
	oldest  *prometheus.Desc
	workers *prometheus.Desc
	running *prometheus.Desc
	links   *prometheus.Desc
	conns   *prometheus.Desc
	octets  *prometheus.Desc
}

// metrics is the handler for GET /metrics.
func metrics(b *broker.Broker) http.Handler {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mdmesh_broker_"+name, help, labels, nil)
	}
	counts := make(map[string]*prometheus.Desc)
	for name := range b.Counters() {
		counts[name] = desc(name+"_total", "Counter "+name+" of /state.")
	}
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{
		b:       b,
		counts:  counts,
		queue:   desc("queue_requests", "Requests waiting for a worker.", "service"),
		oldest:  desc("queue_oldest_seconds", "Age of the oldest waiting request.", "service"),
		workers: desc("workers", "Worker sessions.", "service"),
		running: desc("running_requests", "Requests given to a worker or peer and not answered.", "service"),
		links:   desc("peer_up", "1 if the link to the peer is up.", "peer"),
		conns:   desc("connections", "Open connections on the requests endpoint."),
		octets:  desc("held_octets", "Octets of all requests held."),
	})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.counts {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{c.queue, c.oldest, c.workers, c.running, c.links, c.conns, c.octets} {
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
		ch <- prometheus.MustNewConstMetric(c.counts[name], prometheus.CounterValue, float64(n))
	}
	for _, s := range st.Services {
		name := printable(s.Name)
		gauge(c.queue, float64(s.Queue), name)
		gauge(c.oldest, float64(s.OldestMs)/1e3, name)
		gauge(c.workers, float64(s.Workers), name)
		gauge(c.running, float64(s.Running), name)
	}
	for name, up := range linkStates(st.Peers) {
		gauge(c.links, up, name)
	}
	gauge(c.conns, float64(st.Connections))
	gauge(c.octets, float64(st.HeldOctets))
}

// linkStates has one entry for each peer: several endpoints may lead to one.
func linkStates(peers []broker.LinkState) map[string]float64 {
	states := make(map[string]float64)
	for _, p := range peers {
		name := printable(cmp.Or(p.Name, p.Endpoint))
		if p.State == "up" {
			states[name] = 1
		} else if _, known := states[name]; !known {
			states[name] = 0
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
