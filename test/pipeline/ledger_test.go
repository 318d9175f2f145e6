package pipeline

import (
	"database/sql"
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the store as any program can

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// key names a row.
type key struct{ series, id string }

// ledger knows every record that was sent and what was answered.
type ledger struct {
	mu      sync.Mutex
	sent    map[key]store.Record
	ok      int
	refused []string
}

func (l *ledger) send(r store.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent == nil {
		l.sent = make(map[key]store.Record)
	}
	l.sent[key{r.Series, r.ID}] = r
}

// answered hears the answer to one record.
func (l *ledger) answered(_ int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.ok++
	} else if len(l.refused) < 10 {
		l.refused = append(l.refused, err.Error())
	}
}

// counts returns how many records were sent and how many answered ok.
func (l *ledger) counts() (sent, ok int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sent), l.ok
}

// series returns the names, sorted.
func (l *ledger) series() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for k := range l.sent {
		names = append(names, k.series)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// rollUp computes plainly what the roll-ups of a series must be, oldest first.
// The values of the tests are whole numbers, so their sums are exact.
func (l *ledger) rollUp(series string, length time.Duration) []point {
	l.mu.Lock()
	defer l.mu.Unlock()
	byStart := make(map[time.Time]*point)
	last := make(map[time.Time]store.Record)
	for k, r := range l.sent {
		if k.series != series {
			continue
		}
		start := r.Time.UTC().Truncate(length)
		p := byStart[start]
		if p == nil {
			p = &point{Start: start, Min: r.Value, Max: r.Value}
			byStart[start] = p
		}
		p.Count++
		p.Sum += r.Value
		p.Min, p.Max = min(p.Min, r.Value), max(p.Max, r.Value)
		if prior := last[start]; p.Count == 1 || r.Time.After(prior.Time) || r.Time.Equal(prior.Time) && r.ID > prior.ID {
			p.Last, last[start] = r.Value, r
		}
		p.Mean = p.Sum / float64(p.Count)
	}
	var points []point
	for _, p := range byStart {
		points = append(points, *p)
	}
	slices.SortFunc(points, func(a, b point) int { return a.Start.Compare(b.Start) })
	return points
}

// shownBy waits until the page's server shows exactly what was sent, in every
// window of every series, and returns it with the revs.
func (l *ledger) shownBy(t testing.TB, m *mesh) map[string][]point {
	t.Helper()
	shown := make(map[string][]point)
	for _, series := range l.series() {
		for _, window := range slices.Backward(windows) { // days are the cheapest to wait for
			want := l.rollUp(series, lengths[window])
			meshproc.Eventually(t, fmt.Sprintf("all of %s by %s", series, window), func() error {
				got, err := m.points(series, window)
				if err != nil {
					return err
				}
				shown[series+" "+window] = slices.Clone(got)
				for i := range got {
					got[i].Rev = 0
				}
				return compare(got, want)
			})
		}
	}
	list, err := m.newest()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Series)
	}
	if !slices.Equal(names, l.series()) {
		t.Errorf("series %v, want %v", names, l.series())
	}
	return shown
}

// compare names the first difference. Sums of fractions depend on the order of
// adding in their last digits; those of whole numbers must be equal.
func compare(got, want []point) error {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if near(g.Sum, w.Sum) && near(g.Mean, w.Mean) {
			g.Sum, g.Mean = w.Sum, w.Mean
		}
		if g != w {
			return fmt.Errorf("point %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d points, want %d", len(got), len(want))
	}
	return nil
}

// near tells whether two numbers differ by rounding only.
func near(a, b float64) bool {
	whole := a == math.Trunc(a) && b == math.Trunc(b)
	return a == b || !whole && math.Abs(a-b) <= 1e-12*max(math.Abs(a), math.Abs(b), 1)
}

// storedBy compares the rows in the store with what was sent: the same set, each
// once, and no mark left over.
func (l *ledger) storedBy(t testing.TB, m *mesh) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(filepath.Join(m.data, "mesh.db"))+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT s.name, r.id, r.time, r.value, r.rev FROM rows r JOIN series s ON s.id = r.series")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := make(map[key]store.Record)
	for rows.Next() {
		var r store.Record
		var at int64
		if err := rows.Scan(&r.Series, &r.ID, &at, &r.Value, &r.Rev); err != nil {
			t.Fatal(err)
		}
		r.Time = time.Unix(0, at).UTC()
		found[key{r.Series, r.ID}] = r
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, want := range l.sent {
		if got, ok := found[k]; !ok || got != want {
			t.Errorf("row %v is %+v (%v), want %+v", k, got, ok, want)
			return
		}
	}
	if len(found) != len(l.sent) {
		t.Errorf("%d rows, %d records were sent", len(found), len(l.sent))
	}
	var marks int
	if err := db.QueryRow("SELECT count(*) FROM dirty").Scan(&marks); err != nil || marks != 0 {
		t.Errorf("%d marks left over, %v", marks, err)
	}
}
