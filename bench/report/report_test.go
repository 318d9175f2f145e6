package report

import (
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/bench/work"
)

func TestRatiosAreMediansOverRounds(t *testing.T) {
	t.Parallel()
	var p Peers
	p.Cell("ii", "mdmesh").Samples = []Sample{{Rate: 100}, {Rate: 500}, {Rate: 900}}
	p.Cell("ii", "nats").Samples = []Sample{{Rate: 10}, {Rate: 250}, {Rate: 90}}
	if got := p.ratio("ii", "mdmesh", "nats", rate); got != 10 { // 10, 2, 10; of the medians it is 5.6
		t.Errorf("ratio = %v, want 10", got)
	}
	if got := p.ratio("ii", "mdmesh", "gearmand", rate); !math.IsNaN(got) {
		t.Errorf("ratio to nothing = %v, want NaN", got)
	}
	var out strings.Builder
	if err := p.Print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "10.0    >= 4.5") {
		t.Errorf("no ratio beside its target:\n%s", &out)
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results", "peers.json")
	want := Peers{Machine: Here(), Rounds: 5, Idle: &Idle{Peers: 3, Pairs: []float64{1}}}
	want.Cell("i", "nats").Samples = []Sample{{Rate: 1}}
	if err := Write(path, &want); err != nil {
		t.Fatal(err)
	}
	var got Peers
	if err := Read(path, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v (%v), want %+v", got, err, want)
	}
	if want.Machine.Cores < 1 || want.Machine.CPU == "" {
		t.Errorf("the machine is %+v", want.Machine)
	}
}

func TestBalanceSummary(t *testing.T) {
	t.Parallel()
	point := func(seed uint64, wait, ideal float64) Point {
		return Point{System: "mdmesh", Load: 0.8, Seed: seed, Outcome: work.Outcome{
			Wait: work.Quantiles{P99: wait}, IdealWait: work.Quantiles{P99: ideal},
			Latency: work.Quantiles{P99: 2 * wait}, IdealLatency: work.Quantiles{P99: wait}}}
	}
	b := Balance{Workers: 16, Calls: 10, Points: []Point{point(1, 50, 40), point(2, 70, 69), point(3, 60, 58)}}
	s := b.Summary()
	if len(s) != 1 || s[0].Wait99 != 60 || s[0].WaitDifference != 2 || s[0].LatencyRatio != 2 {
		t.Errorf("Summary = %+v, want medians 60, 2 and 2", s)
	}
	if text := b.Markdown(); !strings.Contains(text, "| 80 % | 58.0 | 60.0 |") {
		t.Errorf("Markdown lacks the row:\n%s", text)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{1: "1", 999: "999", 8640: "8.6k", 125_300: "125k", 1_090_000: "1.09M"} {
		if got := Count(v); got != want {
			t.Errorf("Count(%v) = %q, want %q", v, got, want)
		}
	}
}
