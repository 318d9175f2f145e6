package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestDocumentsHaveTheLastResults(t *testing.T) {
	t.Parallel()
	tables := map[string]int{"README.md": 3, "docs/BENCHMARKS.md": 1} // peers, balance and faults; all of faults
	for _, name := range documents {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := fill(root, text)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, fresh) {
			t.Errorf("the tables of %s are not those of bench/results: run make bench-table", name)
		}
		if n := len(section.FindAll(text, -1)); n != tables[name] {
			t.Errorf("%s has %d tables of measurements, want %d", name, n, tables[name])
		}
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bench/results"), 0o755); err != nil {
		t.Fatal(err)
	}
	const results = `{"machine": {"cpu": "Some CPU", "cores": 2, "go": "go1.26", "date": "2026-01-02"}, "rounds": 3, "duration": "1s", "cells": [
		{"shape": "ii", "system": "mdmesh", "samples": [{"rate": 100, "broker_cpu_us": 1}, {"rate": 700000, "broker_cpu_us": 0.5}, {"rate": 800000, "broker_cpu_us": 0.25}]},
		{"shape": "ii", "system": "gearmand", "missing": "not installed (Debian: gearman-job-server)"}]}`
	if err := os.WriteFile(filepath.Join(dir, "bench/results/peers.json"), []byte(results), 0o644); err != nil {
		t.Fatal(err)
	}
	const before = "a\n<!-- bench/results/peers.json -->\nold\n<!-- end -->\nb\n<!-- bench/results/balance.json -->\nkept\n<!-- end -->\n"
	fresh, err := fill(dir, []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a\n<!-- bench/results/peers.json -->\n", "2 cores (Some CPU), go1.26, 2026-01-02", "Medians of 3 interleaved rounds of 1s",
		"| 1 connection x 128 calls | 700k (0.50) |  |  | not installed |  |", "<!-- end -->\nb\n", "kept"} {
		if !strings.Contains(string(fresh), want) {
			t.Errorf("the text lacks %q:\n%s", want, fresh)
		}
	}
	if strings.Contains(string(fresh), "old") {
		t.Error("the old table is still there")
	}
	if again, err := fill(dir, fresh); err != nil || !bytes.Equal(again, fresh) {
		t.Errorf("filling again changes the text (%v)", err)
	}
	if _, err := fill(dir, []byte("<!-- bench/results/other.json -->\n<!-- end -->\n")); err == nil {
		t.Error("a file that no benchmark writes goes unnoticed")
	}
}
