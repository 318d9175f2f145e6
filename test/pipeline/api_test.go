package pipeline

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// point is one roll-up as push shows it.
type point struct {
	Start time.Time `json:"start"`
	Count int64     `json:"count"`
	Sum   float64   `json:"sum"`
	Min   float64   `json:"min"`
	Max   float64   `json:"max"`
	Mean  float64   `json:"mean"`
	Last  float64   `json:"last"`
	Rev   int64     `json:"rev"`
}

// newest is one item of the list of all series.
type newest struct {
	Series string `json:"series"`
	Points []struct {
		Window string `json:"window"`
		point
	} `json:"points"`
}

// windows are all, shortest first.
var windows = []string{"10s", "minute", "hour", "day"}

var lengths = map[string]time.Duration{"10s": 10 * time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}

// browserless asks over a new connection each time: push is killed meanwhile.
var browserless = &http.Client{Timeout: meshproc.Guard, Transport: &http.Transport{DisableKeepAlives: true}}

// get returns what the page's server answers with 200.
func (m *mesh) get(path string) ([]byte, error) { return m.fetch(portPage, path) }

func (m *mesh) fetch(port int, path string) ([]byte, error) {
	resp, err := browserless.Get("http://" + m.address(port) + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// newest returns the list of all series.
func (m *mesh) newest() ([]newest, error) {
	body, err := m.get("/api/rollups")
	if err != nil {
		return nil, err
	}
	var list []newest
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("%w in %s", err, body)
	}
	return list, nil
}

// maxLimit is the most points push gives at once.
const maxLimit = 10_000

// points returns the whole history of a series, oldest first.
func (m *mesh) points(series, window string) (all []point, err error) {
	to := ""
	for {
		q := url.Values{"series": {series}, "window": {window}, "limit": {fmt.Sprint(maxLimit)}}
		if to != "" {
			q.Set("to", to)
		}
		body, err := m.get("/api/rollups?" + q.Encode())
		if err != nil {
			return nil, err
		}
		var page struct {
			Series, Window string
			Points         []point
		}
		if err := json.Unmarshal(body, &page); err != nil || page.Series != series || page.Window != window {
			return nil, fmt.Errorf("%v in %.200s", err, body)
		}
		all = slices.Concat(page.Points, all)
		if len(page.Points) < maxLimit {
			return all, nil
		}
		to = all[0].Start.Format(time.RFC3339)
	}
}

// counted returns how many records a series has in all windows of a length.
func (m *mesh) counted(series, window string) (count int64, err error) {
	points, err := m.points(series, window)
	for _, p := range points {
		count += p.Count
	}
	return count, err
}

// lastRev returns the highest rev of all series.
func (m *mesh) lastRev() (rev int64, err error) {
	list, err := m.newest()
	for _, s := range list {
		for _, p := range s.Points {
			rev = max(rev, p.Rev)
		}
	}
	return rev, err
}

// counters returns what a broker has counted; port is that of its HTTP.
func (m *mesh) counters(port int) map[string]uint64 {
	m.t.Helper()
	body, err := m.fetch(port, "/state")
	var state struct{ Counters map[string]uint64 }
	if err == nil {
		err = json.Unmarshal(body, &state)
	}
	if err != nil {
		m.t.Fatalf("state of a broker: %v", err)
	}
	return state.Counters
}

// reachable tells whether something accepts connections there.
func (m *mesh) reachable(port int) error {
	c, err := net.DialTimeout("tcp", m.address(port), meshproc.Guard)
	if err == nil {
		_ = c.Close()
	}
	return err
}
