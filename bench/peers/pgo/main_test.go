package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/pprof/profile"
)

// leave writes what a process on some machine leaves: caller called callee n times, as
// samples saw it.
func leave(t *testing.T, path, caller, callee string, n int64) {
	t.Helper()
	m := &profile.Mapping{ID: 1, Start: 1, Limit: 1 << 20, File: "/secret/place/mdbroker"}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 1, TimeNanos: 12345,
		Mapping: []*profile.Mapping{m}, Comments: []string{"secret"},
	}
	s := &profile.Sample{Value: []int64{n, n * 1e7}}
	for i, name := range []string{callee, caller} {
		f := &profile.Function{ID: uint64(i + 1), Name: name, SystemName: name, Filename: "/secret/place/main.go", StartLine: 10}
		l := &profile.Location{ID: uint64(i + 1), Mapping: m, Address: uint64(i + 2), Line: []profile.Line{{Function: f, Line: 12}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		s.Location = append(s.Location, l)
	}
	if n > 0 {
		p.Sample = append(p.Sample, s)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := p.Write(f); err != nil {
		t.Fatal(err)
	}
}

// What several processes left is one profile, in which nothing tells of the machine.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	leave(t, filepath.Join(dir, "mdbroker-1.pprof"), "main.a", "main.b", 2)
	leave(t, filepath.Join(dir, "mdbroker-2.pprof"), "main.a", "main.b", 3)
	leave(t, filepath.Join(dir, "mdbroker-3.pprof"), "main.a", "main.c", 0)
	leave(t, filepath.Join(dir, "other-4.pprof"), "main.a", "main.d", 9)
	out := filepath.Join(dir, "default.pgo")
	if err := write(dir, "mdbroker", out); err != nil {
		t.Fatal(err)
	}
	p, err := parse(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sample) != 1 || p.Sample[0].Value[0] != 5 || len(p.Sample[0].Location) != 2 {
		t.Errorf("samples %v, want one of 5 with two places", p.Sample)
	}
	for _, f := range p.Function {
		if f.Name != "main.a" && f.Name != "main.b" || f.StartLine != 10 || f.Filename != "" {
			t.Errorf("function %+v", f)
		}
	}
	if len(p.Comments) > 0 || p.TimeNanos != 0 || len(p.Mapping) > 0 {
		t.Errorf("comments %q, time %d, mappings %v: want none", p.Comments, p.TimeNanos, p.Mapping)
	}
}

// A folder without a sample leaves the profile there is as it is.
func TestNothingToWrite(t *testing.T) {
	dir := t.TempDir()
	leave(t, filepath.Join(dir, "mdbroker-1.pprof"), "main.a", "main.b", 0)
	out := filepath.Join(dir, "default.pgo")
	if err := os.WriteFile(out, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(dir, "mdbroker", out); err == nil {
		t.Error("no error")
	}
	if text, _ := os.ReadFile(out); string(text) != "before" {
		t.Errorf("it is %q now", text)
	}
}
