package sqlite

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// dataDir holds real measurements. It lies beside the repository and is no part
// of it; on CI it must be there.
const dataDir = "../../../shared/data"

// TestRealData loads taxi rides (every half hour), a machine's temperature (every
// five minutes), tweets and a year of earthquakes (any time, several at once),
// rolls up meanwhile, and compares all windows with plain sums over the files.
func TestRealData(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(dataDir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("real data is missing: %v", err)
		}
		t.Skipf("no real data beside the repository: %v", err)
	}
	records := readRecords(t, "nab/realKnownCause/nyc_taxi.csv", "nyc_taxi", "2006-01-02 15:04:05", 0, 1)
	for _, name := range []string{
		"realKnownCause/machine_temperature_system_failure", "realTweets/Twitter_volume_AMZN",
	} {
		records = append(records, readRecords(t, "nab/"+name+".csv", filepath.Base(name), "2006-01-02 15:04:05", 0, 1)...)
	}
	records = append(records, readRecords(t, "ncedc-earthquakes/earthquakes-2016.csv.gz", "earthquakes", "2006/01/02 15:04:05", 0, 4)...)

	s := open(t, t.TempDir())
	m := model{}
	for i := 0; i < len(records); i += 1000 {
		batch := records[i:min(i+1000, len(records))]
		for j, o := range apply(t, s, batch...) {
			if want := m.apply(batch[j]); o != want {
				t.Fatalf("%+v: %v, want %v", batch[j], o, want)
			}
		}
		if i%5000 == 0 {
			if _, _, err := s.Recompute(t.Context(), 500); err != nil {
				t.Fatal(err)
			}
		}
	}
	rollUp(t, s, 500)
	all := allPoints(t, s, 500)
	checkPoints(t, s, m, all)
	checkReaders(t, s, all)

	rides, count := 0.0, int64(0) // whole numbers: float64 adds them without error
	for _, r := range records {
		if r.Series == "nyc_taxi" {
			rides += r.Value
			count++
		}
	}
	for _, w := range store.Windows {
		sum, n := 0.0, int64(0)
		for _, p := range all {
			if p.Series == "nyc_taxi" && p.Window == w {
				sum += p.Sum
				n += p.Count
			}
		}
		if sum != rides || n != count || n == 0 {
			t.Errorf("%s: %v rides in %d rows, want %v in %d", w, sum, n, rides, count)
		}
	}
	t.Logf("%d records, %d points", len(records), len(all))
}

// readRecords reads a CSV file with a header; the line is the record's id.
func readRecords(t *testing.T, name, series, layout string, timeColumn, valueColumn int) (records []store.Record) {
	t.Helper()
	f, err := os.Open(filepath.Join(dataDir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := csv.NewReader(in).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for i, fields := range lines[1:min(len(lines), 1+excerpt)] {
		at, err := time.Parse(layout, fields[timeColumn])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if fields[valueColumn] == "" {
			continue // an earthquake nobody measured
		}
		v, err := strconv.ParseFloat(fields[valueColumn], 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		records = append(records, store.Record{Series: series, ID: fmt.Sprint("line-", i+2), Time: at, Value: v})
	}
	return records
}
