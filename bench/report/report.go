// Package report holds the results of the benchmarks and turns them into tables: for
// the terminal, beside what is to be reached, and for the README.
//
// The one invariant: a figure in the README is in the results' file, and so was
// measured; go run ./bench/table writes it, a test compares. Ratios are medians over
// rounds of the ratio within one round, because machines drift between rounds.
//
// Start at Peers (peers.go) and Balance (balance.go).
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Machine is what the figures were measured on.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
	Date  string `json:"date"`
}

// Here describes this machine, now.
func Here() Machine {
	return Machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly)}
}

func (m Machine) String() string {
	return fmt.Sprintf("%d cores (%s), %s, %s", m.Cores, m.CPU, m.Go, m.Date)
}

// kept tells of processors that were kept from sleeping, as the end of a sentence.
func kept(awake bool) string {
	if awake {
		return "; processors kept awake"
	}
	return ""
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// Write writes results to a file, as readable JSON.
func Write(path string, results any) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// Read reads what Write wrote.
func Read(path string, results any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	if err := json.Unmarshal(text, results); err != nil {
		return fmt.Errorf("read results %s: %w", path, err)
	}
	return nil
}

// Median is the middle of values, NaN without any. It does not change them.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// Count writes a number as people read it: 9.0k, 125k, 1.09M.
func Count(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v < 1e3:
		return fmt.Sprintf("%.0f", v)
	case v < 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case v < 1e6:
		return fmt.Sprintf("%.0fk", v/1e3)
	default:
		return fmt.Sprintf("%.2fM", v/1e6)
	}
}

// three writes three digits of a number.
func three(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
