package commands

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestListings: the three forms, and the keys that scripts rely on. More keys may
// come; these stay.
func TestListings(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	startWorker(t, a, "echo", "--concurrency", "3", "--tag", "red")
	startWorker(t, a, "echo", "--service", "blank name")
	want(t, a, "x", "call", "echo", "x")
	for _, c := range []struct {
		name, head string
		rows       int
		keys       string
	}{
		{"services", "SERVICE WORKERS IDLE QUEUE RUNNING PEERS MEAN_US ANSWERED FAILED REDELIVERED", 2,
			"name workers idle queue running oldest_ms mean_us octets peers requests answered failed redelivered late expired cancelled offloaded busy"},
		{"workers", "SERVICE REMOTE DIALECT HOST PID SCOPE CONCURRENCY RUNNING SUSPECT", 2,
			"service remote dialect host pid scope concurrency running since_ms version draining suspect"},
		{"brokers", "NAME SELF ENDPOINTS PUBLISH SUBSCRIBE", 2, "name incarnation self endpoints"},
		{"peers", "NAME ENDPOINT STATE RTT_US SINCE_MS REASON ERROR", 1, "name state rtt_us since_ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rows := list(t, a, c.name)
			if len(rows) != c.rows {
				t.Fatalf("%d rows, want %d: %v", len(rows), c.rows, rows)
			}
			for _, key := range strings.Fields(c.keys) {
				if _, ok := rows[0][key]; !ok {
					t.Errorf("no key %q among %q", key, slices.Sorted(maps.Keys(rows[0])))
				}
			}
			table := run(t, a, c.name)
			lines := strings.Split(strings.TrimRight(table.Stdout, "\n"), "\n")
			if table.Code != 0 || len(lines) != c.rows+1 || strings.Join(strings.Fields(lines[0]), " ") != c.head {
				t.Errorf("exit code %d, table:\n%s", table.Code, table.Stdout)
			}
			stream := run(t, a, "-o", "jsonl", c.name)
			lines = strings.Split(strings.TrimRight(stream.Stdout, "\n"), "\n")
			for _, line := range lines {
				if !json.Valid([]byte(line)) {
					t.Errorf("-o jsonl: %q", line)
				}
			}
			if len(lines) != c.rows {
				t.Errorf("-o jsonl: %d lines, want %d", len(lines), c.rows)
			}
		})
	}
	t.Run("values", func(t *testing.T) {
		t.Parallel()
		for _, row := range list(t, a, "workers") {
			if row["service"] == "echo" && (row["concurrency"] != 3.0 || row["dialect"] != "native" || row["scope"] != "mesh") {
				t.Errorf("worker %v", row)
			}
		}
		for _, row := range list(t, b, "services") {
			if row["name"] == "echo" && (row["workers"] != 0.0 || row["peers"] == 0.0) {
				t.Errorf("service at the peer %v", row)
			}
		}
	})
}

// TestEmptyListings: nothing is an empty list, not null, and a table's heading alone.
func TestEmptyListings(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, name := range []string{"services", "workers", "peers"} {
		want(t, b, "[]\n", "-o", "json", name)
		want(t, b, "", "-o", "jsonl", name)
		if r := run(t, b, name); r.Code != 0 || strings.Count(r.Stdout, "\n") != 1 {
			t.Errorf("%s: exit code %d, table %q", name, r.Code, r.Stdout)
		}
	}
}

// TestBench: exactly the documented fields, and a thousand connections at once.
func TestBench(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo", "--concurrency", "32")
	for _, args := range [][]string{
		{"--duration", "200ms", "--connections", "2"},
		{"--duration", "100ms", "--connections", "1", "--inflight", "128", "--size", "4KiB"},
		{"--duration", "100ms", "--connections", "1000", "--inflight", "1"},
	} {
		r := run(t, b, append([]string{"-o", "json", "--timeout", "1m", "bench", "echo"}, args...)...)
		var got map[string]float64
		if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil || r.Code != 0 || r.Stderr != "" {
			t.Fatalf("%q: exit code %d, stdout %q, stderr %q: %v", args, r.Code, r.Stdout, r.Stderr, err)
		}
		keys := strings.Join(slices.Sorted(maps.Keys(got)), " ")
		if keys != "calls errors max_us p50_us p90_us p99_us rate seconds" {
			t.Errorf("keys %s", keys)
		}
		if got["calls"] < 1 || got["errors"] != 0 || got["p50_us"] < 1 || got["p50_us"] > got["p99_us"] || got["p99_us"] > got["max_us"] {
			t.Errorf("%q: %v", args, got)
		}
	}
	if r := run(t, b, "bench", "echo", "--duration", "50ms"); r.Code != 0 || !strings.Contains(r.Stdout, "calls in") || !strings.Contains(r.Stdout, "p99") {
		t.Errorf("exit code %d, table %q", r.Code, r.Stdout)
	}
}
