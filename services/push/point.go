package push

import (
	"encoding/json"
	"math"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// The JSON shapes. The order of the fields is part of the contract.

// pointJSON is one point where series and window are already said.
type pointJSON struct {
	Start string `json:"start"`
	Count int64  `json:"count"`
	Sum   number `json:"sum"`
	Min   number `json:"min"`
	Max   number `json:"max"`
	Mean  number `json:"mean"`
	Last  number `json:"last"`
	Rev   int64  `json:"rev"`
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

// number is a float64 whose sum may have overflowed: JSON has no infinity, so
// that becomes null instead of an answer nobody gets.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(n), 0) || math.IsNaN(float64(n)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

func toJSON(p store.Point) pointJSON {
	return pointJSON{
		Start: p.Start.UTC().Format(time.RFC3339),
		Count: p.Count,
		Sum:   number(p.Sum),
		Min:   number(p.Min),
		Max:   number(p.Max),
		Mean:  number(p.Mean),
		Last:  number(p.Last),
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
