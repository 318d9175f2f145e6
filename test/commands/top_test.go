package commands

import (
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// TestTop: one look where nobody watches, objects without end for scripts, and
// what was asked for by name only.
func TestTop(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	startWorker(t, b, "echo", "--service", "other")
	bench := meshproc.Start(t, cli(t, b, "bench", "echo", "--connections", "1", "--inflight", "4", "--duration", "1h"))
	const keys = "name rate failed_rate queue oldest_ms running workers idle peers mean_us"

	busy := func(rows []map[string]any) bool {
		for _, row := range rows {
			if row["name"] == "echo" && row["rate"].(float64) > 0 {
				return true
			}
		}
		return false
	}
	var rows []map[string]any
	meshproc.Eventually(t, "top sees calls", func() error {
		r := run(t, b, "-o", "json", "top", "--interval", "100ms")
		if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil || r.Code != 0 {
			t.Fatalf("exit code %d, %q: %v", r.Code, r.Stdout+r.Stderr, err)
		}
		if !busy(rows) {
			return json.Unmarshal([]byte("no rate"), &rows)
		}
		return nil
	})
	for _, key := range strings.Fields(keys) {
		if _, ok := rows[0][key]; !ok || len(rows) != 2 {
			t.Errorf("no key %q in %v", key, rows)
		}
	}
	if r := run(t, b, "top", "--interval", "100ms"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "SERVICE ") || strings.Count(r.Stdout, "\n") != 3 || strings.Contains(r.Stdout, "\x1b") {
		t.Errorf("exit code %d, table %q", r.Code, r.Stdout)
	}
	r := run(t, b, "-o", "jsonl", "top", "other", "--interval", "100ms", "--count", "3")
	if lines := strings.Split(strings.TrimSpace(r.Stdout), "\n"); r.Code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[2], `{"name":"other","rate":0,`) {
		t.Errorf("exit code %d, lines %q", r.Code, r.Stdout)
	}
	bench.Kill(t)
	oneLine(t, run(t, b, "top", "eco"), 69, `nobody offers "eco"`, "did you mean echo?")
	oneLine(t, run(t, b, "top", "--interval", "1ms"), 64, "--interval 1ms")
	oneLine(t, run(t, b, "top", "--count", "-1"), 64, "--count -1")
}

// TestMisspelt: a name like one that is offered draws a hint, another does not.
func TestMisspelt(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	oneLine(t, run(t, b, "call", "--timeout", "300ms", "ehco", "x"), 75, "no worker offers it; did you mean echo?")
	oneLine(t, run(t, b, "call", "--no-wait", "Echo", "x"), 69, `nobody offers "Echo"; did you mean echo?`)
	oneLine(t, run(t, b, "bench", "--timeout", "300ms", "echo2"), 75, "did you mean echo?")
	if r := run(t, b, "call", "--no-wait", "thumbnails", "x"); r.Code != 69 || strings.Contains(r.Stderr, "did you mean") {
		t.Errorf("exit code %d, said %q", r.Code, r.Stderr)
	}
}

// TestPoison: what three workers did not survive is found again.
func TestPoison(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for range 3 {
		startWorker(t, b, "exec", "--service", "deadly", "--", "sh", "-c", "kill -9 $PPID; sleep 1000")
	}
	want(t, b, "[]\n", "-o", "json", "poison")
	if r := run(t, b, "call", "--timeout", "1m", "deadly", "hemlock"); r.Code != 75 || !strings.Contains(r.Stderr, "worker lost") {
		t.Fatalf("exit code %d, said %q", r.Code, r.Stderr)
	}
	rows := list(t, b, "poison")
	if len(rows) != 1 {
		t.Fatalf("poison %v", rows)
	}
	for _, key := range strings.Fields("id service attempts octets reason at_ms age_ms") {
		if _, ok := rows[0][key]; !ok {
			t.Errorf("no key %q in %v", key, rows[0])
		}
	}
	if rows[0]["service"] != "deadly" || rows[0]["attempts"] != 3.0 || len(rows[0]["id"].(string)) != 32 {
		t.Errorf("poison %v", rows[0])
	}
	if r := run(t, b, "poison"); !strings.HasPrefix(r.Stdout, "ID ") || strings.Count(r.Stdout, "\n") != 2 {
		t.Errorf("table %q", r.Stdout)
	}
}

// TestInterrupted: what a script sees of a call that somebody ended.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo", "--service", "slow", "--delay", "1h", "--drain-timeout", "0")
	call := meshproc.Start(t, cli(t, b, "call", "slow", "x", "--timeout", "1h"))
	meshproc.Eventually(t, "the call runs", func() error {
		for _, row := range list(t, b, "services") {
			if row["running"] == 1.0 {
				return nil
			}
		}
		return errors.New("nothing runs")
	})
	call.Signal(t, syscall.SIGINT)
	if code := call.Wait(t); code != 130 || call.Output() != "" {
		t.Errorf("interrupted: exit code %d, said %q", code, call.Output())
	}
}
