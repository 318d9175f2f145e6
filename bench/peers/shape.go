package main

import "encoding/json"

// shape is a form of load. It is the same for every system, as far as it can be: a
// system that runs one request at once per worker connection runs one at once.
type shape struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"` // of clients, all in one process
	Inflight    int    `json:"inflight"`    // blocking calls at once on each
	Sessions    int    `json:"sessions"`    // worker connections, all in one process
	Concurrency int    `json:"concurrency"` // requests one of them runs at once
	Size        int    `json:"size"`        // octets of each body, both ways
}

func (s shape) lanes() int { return s.Connections * s.Inflight }

func (s shape) String() string {
	text, _ := json.Marshal(s) // numbers and a name
	return string(text)
}

// The shapes.
var (
	shapeI    = shape{Name: "i", Connections: 1, Inflight: 1, Sessions: 1, Concurrency: 1, Size: 64}
	shapeII   = shape{Name: "ii", Connections: 1, Inflight: 128, Sessions: 1, Concurrency: 128, Size: 64}
	shapeIII  = shape{Name: "iii", Connections: 64, Inflight: 4, Sessions: 8, Concurrency: 32, Size: 64}
	shapeII1  = shape{Name: "ii 1KiB", Connections: 1, Inflight: 128, Sessions: 1, Concurrency: 128, Size: 1 << 10}
	shapeIII1 = shape{Name: "iii 1KiB", Connections: 64, Inflight: 4, Sessions: 8, Concurrency: 32, Size: 1 << 10}
	shape64   = shape{Name: "64KiB", Connections: 64, Inflight: 1, Sessions: 8, Concurrency: 32, Size: 64 << 10}
)

// grid is what is measured: shapes, and the systems in each.
var grid = []struct {
	shape   shape
	systems []string
}{
	{shapeI, []string{"mdmesh", "nats", "gearmand", "relay"}},
	{shapeII, []string{"mdmesh", "nats", "gearmand", "relay"}},
	{shapeIII, []string{"mdmesh", "plain", "nats", "gearmand", "relay"}},
	{shapeII1, []string{"mdmesh", "nats"}},
	{shapeIII1, []string{"mdmesh", "nats"}},
	{shape64, []string{"mdmesh", "nats", "relay"}},
}
