// Faults provokes faults among real processes, each many times, and prints how long
// it takes until they are overcome, beside what is promised. It shares processes and
// injections with test/faults, and asserts nothing: a round that does not come to its
// end is counted and named.
//
// The one invariant: whatever was started is gone when the program ends, also by
// Ctrl-C. Start at run; what an injection is stands in injections.go, the lists are in
// the files beside it.
package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/bench/report"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

func main() {
	actor.Main() // this process may be one of those that are killed
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-faults:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("N"), "30"))
	if err != nil || rounds < 1 {
		return fmt.Errorf("rounds N=%s: give a number, such as 30", os.Getenv("N"))
	}
	only, path := os.Getenv("ONLY"), os.Getenv("OUT")
	all := begin("faults")
	go endOnSignal(all)
	results := report.Faults{Machine: report.Here(), Rounds: rounds}
	for _, i := range injections {
		if !strings.Contains(i.fault, only) {
			continue
		}
		begun := time.Now()
		fmt.Fprintf(os.Stderr, "%s ", i.fault)
		results.Injections = append(results.Injections, i.measure(all, rounds)...)
		fmt.Fprintf(os.Stderr, " %v\n", time.Since(begun).Round(time.Second))
	}
	if len(results.Injections) == 0 {
		return fmt.Errorf("no injection has ONLY=%s in its name: see docs/BENCHMARKS.md", only)
	}
	if err := results.Print(os.Stdout); err != nil {
		return err
	}
	if only != "" && path == "" {
		return nil // some are not to take the place of all
	}
	return report.Write(cmp.Or(path, "bench/results/faults.json"), &results)
}

// endOnSignal leaves nothing behind when the program is interrupted.
func endOnSignal(all *round) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	<-ch
	for _, pid := range meshproc.Marked(all) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	os.Exit(130)
}

// measure provokes the fault as often as wanted, or as it may be, in as many lanes as
// do not disturb each other, and returns a row for each figure.
func (i *injection) measure(all *round, wanted int) []report.Injection {
	rounds := wanted
	if i.rounds > 0 {
		rounds = min(wanted, i.rounds)
	}
	site := all.sub(i.fault)
	defer site.end()
	var provoke func(*round) []float64
	if text := site.try(func() { provoke = i.prepare(site) }); text != "" {
		return i.rows(wanted, rounds, nil, slices.Repeat([]string{text}, rounds))
	}
	var mu sync.Mutex // guards the following
	var measured [][]float64
	var failed []string
	next := 0
	var lanes sync.WaitGroup
	for range max(i.lanes, 1) {
		lanes.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if n >= rounds {
					return
				}
				values, text := site.sub(strconv.Itoa(n)).measure(provoke)
				text = cmp.Or(text, site.why()) // what rounds share may have failed
				mu.Lock()
				if text == "" {
					measured = append(measured, values)
					fmt.Fprint(os.Stderr, ".")
				} else {
					failed = append(failed, text)
					fmt.Fprint(os.Stderr, "F")
				}
				mu.Unlock()
			}
		})
	}
	lanes.Wait()
	return i.rows(wanted, rounds, measured, failed)
}

// rows sums up what the rounds measured, figure by figure.
func (i *injection) rows(wanted, rounds int, measured [][]float64, failed []string) (out []report.Injection) {
	for n, f := range i.figures {
		row := report.Injection{Fault: i.fault, Measured: f.measured, Unit: f.unit, Promise: f.promise, Failed: failed, Brief: i.brief}
		if rounds != wanted {
			row.Rounds = rounds
		}
		var values []float64
		for _, v := range measured {
			values = append(values, v[n])
		}
		slices.Sort(values)
		row.P50, row.P99 = rank(values, 0.5), rank(values, 0.99)
		out = append(out, row)
	}
	return out
}

// rank is the smallest value that no less than this share of all does not exceed.
func rank(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)]
}
