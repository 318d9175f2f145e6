package feed

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sharedData is a folder of public data sets beside the repository. It is not
// part of it.
const sharedData = "../../../shared/data"

// shared returns the path of a file there, or ends the test: on CI the data has
// to be there.
func shared(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(sharedData, name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the data this test needs is missing: %v", err)
		}
		t.Skipf("needs a data set that is not part of the repository: %v", err)
	}
	return path
}

// TestMetricsOfRealMachines replays series of the Numenta Anomaly Benchmark, one
// of each kind.
func TestMetricsOfRealMachines(t *testing.T) {
	t.Parallel()
	f := &rowsByID{loseEvery: 5}
	addr := startIngest(t, f)
	total := 0
	for _, name := range []string{
		"realKnownCause/nyc_taxi.csv",
		"realTraffic/speed_6005.csv",
		"realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv",
		"artificialWithAnomaly/art_load_balancer_spikes.csv",
	} {
		path := shared(t, filepath.Join("nab", name))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rows := len(strings.Fields(strings.ReplaceAll(strings.TrimSpace(string(text)), " ", "T"))) - 1
		got, err := Run(t.Context(), Config{Path: path, To: addr})
		if err != nil || got.OK != rows || got.Skipped != 0 || got.Rejected != 0 {
			t.Errorf("%s: %+v, %v; want %d rows", filepath.Base(path), got, err, rows)
		}
		total += rows
	}
	if f.inserted != total || f.lost == 0 {
		t.Errorf("%d rows of %d, %d replies lost", f.inserted, total, f.lost)
	}
	taxi := f.series()["nyc_taxi"]
	if len(taxi) != 10320 || taxi[0] != 10844 {
		t.Errorf("nyc_taxi has %d rows, the first %v", len(taxi), taxi[:min(1, len(taxi))])
	}
}

// TestEarthquakes replays a packed file whose columns need naming, twice.
func TestEarthquakes(t *testing.T) {
	t.Parallel()
	path := shared(t, "ncedc-earthquakes/earthquakes-2016.csv.gz")
	f := &rowsByID{loseEvery: 7}
	addr := startIngest(t, f)
	var cols Columns
	for try := range 2 {
		got, err := Run(t.Context(), Config{
			Path: path, To: addr, Value: "Magnitude", Series: "MagType",
			Columns: func(c Columns) { cols = c },
		})
		if err != nil || got.Rows != 38094 || got.OK+got.Skipped != got.Rows || got.Rejected != 0 || f.inserted != got.OK {
			t.Fatalf("replay %d: %+v, %v; %d rows", try, got, err, f.inserted)
		}
		if got.Skipped > got.Rows/50 {
			t.Errorf("%d rows skipped, such as %+v", got.Skipped, got.Problems)
		}
	}
	if cols.Time != "DateTime" || cols.Value != "Magnitude" || cols.Series != "MagType" {
		t.Errorf("columns %+v", cols)
	}
	for name, values := range f.series() {
		for _, v := range values {
			if math.Abs(v) > 10 {
				t.Errorf("%s has a magnitude of %v", name, v)
			}
		}
	}
}
