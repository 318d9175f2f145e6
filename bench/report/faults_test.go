package report

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestFaultsTables: a row says its unit, its rounds and what failed, where they are not
// the usual ones.
func TestFaultsTables(t *testing.T) {
	t.Parallel()
	f := Faults{Rounds: 30, Injections: []Injection{
		{Fault: "kill", Measured: "another has answered", Promise: "100", P50: 1.25, P99: 3},
		{Fault: "crowd", Measured: "memory of each", Unit: "KB", Rounds: 3, Promise: "40", P50: 12.34, P99: 13},
		{Fault: "pause", Measured: "expiries", Unit: "sessions", Promise: "0", Failed: []string{"a reason", "another"}},
		{Fault: "nothing", Measured: "it works", Rounds: 1, Failed: []string{"it cannot"}},
	}}
	text := f.Markdown()
	for _, want := range []string{
		"provoked 30 times among real processes; ms until it is overcome, or what is named, in its unit; p99 of few rounds is the worst. ",
		"| kill | another has answered | 1.25 | 3 | 100 |\n",
		"| crowd (3 rounds) | memory of each | 12.3 KB | 13 KB | 40 KB |\n",
		"| pause (**2 of 30 rounds failed**) | expiries | 0 sessions | 0 sessions | 0 sessions |\n",
		"| nothing (**1 of 1 rounds failed**) | it works | - | - |  |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("Markdown lacks %q:\n%s", want, text)
		}
	}
	var out strings.Builder
	if err := f.Print(&out); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(out.String(), "\n")
	if got := strings.Fields(rows[5]); strings.Join(got, " ") != "crowd memory of each 12.3 13 40 KB 3 0" {
		t.Errorf("printed %q", got)
	}
}

// TestBriefFaults: the README has what is to be brief, and what failed, if anything is to
// be brief at all.
func TestBriefFaults(t *testing.T) {
	t.Parallel()
	f := Faults{Rounds: 30, Injections: []Injection{{Fault: "named", Brief: true}, {Fault: "other"}, {Fault: "broken", Failed: []string{"why"}}}}
	for text, want := range map[string]bool{"| named |": true, "| other |": false, "| broken (**1 of 30": true} {
		if strings.Contains(f.Markdown(), text) != want {
			t.Errorf("README has %q: %t\n%s", text, !want, f.Markdown())
		}
		if !strings.Contains(f.MarkdownOfAll(), text) {
			t.Errorf("all lack %q", text)
		}
	}
	f.Injections[0].Brief = false
	if f.Markdown() != f.MarkdownOfAll() {
		t.Error("where nothing is to be brief, not everything is there")
	}
}

// TestFaultsOfOneUnit: results of the time when all figures were ms still read.
func TestFaultsOfOneUnit(t *testing.T) {
	t.Parallel()
	const old = `{"rounds": 30, "injections": [
		{"fault": "a", "measured": "b", "promise_ms": 50, "p50_ms": 3.44077, "p99_ms": 7.90557},
		{"fault": "c", "measured": "d", "p50_ms": 0.8, "p99_ms": 2, "failed": ["why"]}]}`
	want := []Injection{{Fault: "a", Measured: "b", Promise: "50", P50: 3.44077, P99: 7.90557},
		{Fault: "c", Measured: "d", P50: 0.8, P99: 2, Failed: []string{"why"}}}
	path := filepath.Join(t.TempDir(), "faults.json")
	for _, results := range []any{jsonText(old), &Faults{Rounds: 30, Injections: want}} {
		if err := Write(path, results); err != nil {
			t.Fatal(err)
		}
		var got Faults
		if err := Read(path, &got); err != nil || got.Rounds != 30 || !reflect.DeepEqual(got.Injections, want) {
			t.Errorf("read %+v (%v), want %+v", got, err, want)
		}
	}
	if text := (&Faults{Rounds: 30, Injections: want[:1]}).Markdown(); !strings.Contains(text, "ms until it is overcome. ") {
		t.Errorf("exceptions are named, but there are none:\n%s", text)
	}
}

// jsonText is written as it is.
type jsonText string

func (j jsonText) MarshalJSON() ([]byte, error) { return []byte(j), nil }
