package pipeline

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// sharedData is a folder of public data sets beside the repository. It is no part
// of it.
const sharedData = "../../../shared/data"

// dataset is a file to replay, and how mdcli and the test find its columns.
type dataset struct {
	file, series, layout string
	time, value          int      // columns
	flags                []string // of mdcli feed
}

var datasets = []dataset{
	{file: "nab/realKnownCause/nyc_taxi.csv", series: "nyc_taxi", layout: "2006-01-02 15:04:05", time: 0, value: 1},
	{
		file: "ncedc-earthquakes/earthquakes-2016.csv.gz", series: "quakes", layout: "2006/01/02 15:04:05", time: 0, value: 4,
		flags: []string{"--time", "DateTime", "--value", "Magnitude", "--series", "quakes"},
	},
}

// path returns where the file is, or ends the test: on CI it has to be there.
func (d dataset) path(t testing.TB) string {
	t.Helper()
	path := filepath.Join(sharedData, d.file)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the data this test needs is missing: %v", err)
		}
		t.Skipf("needs a data set that is not part of the repository: %v", err)
	}
	return path
}

// read adds what the file holds to the ledger, and returns how many of its rows
// have no value.
func (d dataset) read(t testing.TB, l *ledger) (rows, empty int) {
	t.Helper()
	f, err := os.Open(d.path(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(d.file, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := csv.NewReader(in).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, fields := range lines[1:] {
		if fields[d.value] == "" {
			empty++
			continue
		}
		at, err := time.Parse(d.layout, fields[d.time])
		if err != nil {
			t.Fatal(err)
		}
		value, err := strconv.ParseFloat(fields[d.value], 64)
		if err != nil {
			t.Fatal(err)
		}
		// Of rows at the same time the greater id is the last one; mdcli's begin so.
		l.send(store.Record{Series: d.series, ID: fmt.Sprintf("L%d-", i+2), Time: at, Value: value})
	}
	return len(lines) - 1, empty
}

// TestFeedRealData replays taxi rides of half a year and earthquakes of a year
// by mdcli, and compares every window with plain sums over the files. Fed once
// more, nothing changes.
func TestFeedRealData(t *testing.T) {
	t.Parallel()
	for _, d := range datasets {
		d.path(t)
	}
	m := start(t)
	var l ledger
	var shown map[string][]point
	for round := range 2 {
		begun := time.Now()
		for _, d := range datasets {
			rows, empty := d.read(t, &l)
			m.feedFile(d, rows, empty)
		}
		fed := time.Since(begun)
		now := l.shownBy(t, m)
		t.Logf("round %d: %d rows fed in %v, all windows right after %v", round+1, len(l.sent), fed, time.Since(begun))
		if round > 0 && !maps.EqualFunc(shown, now, slices.Equal) {
			t.Error("feeding the same again changed a roll-up")
		}
		shown = now
	}
	var points int
	for _, p := range shown {
		points += len(p)
	}
	t.Logf("%d points in %d series and windows", points, len(shown))
}

// feedFile runs mdcli feed and checks what it says of its work.
func (m *mesh) feedFile(d dataset, rows, empty int) {
	m.t.Helper()
	args := append([]string{"-o", "json", "feed", d.path(m.t), "--to", m.address(portIngest)}, d.flags...)
	r := meshproc.Run(m.t, meshproc.Command(m.t, "mdcli", args...))
	var got struct{ Rows, Sent, OK, Rejected, Skipped int }
	err := json.Unmarshal([]byte(r.Stdout), &got)
	wantCode := 0
	if empty > 0 {
		wantCode = 1
	}
	if err != nil || r.Code != wantCode || got.Rows != rows || got.OK != rows-empty || got.Sent != got.OK || got.Rejected != 0 || got.Skipped != empty {
		m.t.Fatalf("%s of %d rows, %d without a value: exit code %d, %v\n%s%s", d.file, rows, empty, r.Code, err, r.Stdout, r.Stderr)
	}
}
