package push

import (
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// The JSON shapes. The order of the fields is part of the contract.

// pointJSON is one point where series and window are already said.
type pointJSON struct {
	Start string  `json:"start"`
	Count int64   `json:"count"`
	Sum   float64 `json:"sum"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Mean  float64 `json:"mean"`
	Last  float64 `json:"last"`
	Rev   int64   `json:"rev"`
}

// windowPointJSON is one point of the newest ones of a series.
type windowPointJSON struct {
	Window store.Window `json:"window"`
	pointJSON
}

// newestJSON is one item of the list of all series: a point per window, the
// shortest window first.
type newestJSON struct {
	Series string            `json:"series"`
	Points []windowPointJSON `json:"points"`
}

// historyJSON answers a query for one series and window.
type historyJSON struct {
	Series string       `json:"series"`
	Window store.Window `json:"window"`
	Points []pointJSON  `json:"points"`
}

// livePointJSON is one point on the websocket, the same as in a rollup event.
type livePointJSON struct {
	Series string       `json:"series"`
	Window store.Window `json:"window"`
	pointJSON
}

func toJSON(p store.Point) pointJSON {
	return pointJSON{
		Start: p.Start.UTC().Format(time.RFC3339),
		Count: p.Count,
		Sum:   p.Sum,
		Min:   p.Min,
		Max:   p.Max,
		Mean:  p.Mean,
		Last:  p.Last,
		Rev:   p.Rev,
	}
}

func toLiveJSON(points []store.Point) []livePointJSON {
	live := make([]livePointJSON, 0, len(points))
	for _, p := range points {
		live = append(live, livePointJSON{p.Series, p.Window, toJSON(p)})
	}
	return live
}
