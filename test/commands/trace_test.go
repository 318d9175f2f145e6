package commands

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// traces asks for a request with -o json and returns its rows by broker.
func traces(t *testing.T, b *broker, id string) (rows map[string]map[string]any, code int) {
	t.Helper()
	r := run(t, b, "-o", "json", "trace", id)
	var list []map[string]any
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		t.Fatalf("exit code %d, stdout %q, stderr %q: %v", r.Code, r.Stdout, r.Stderr, err)
	}
	rows = map[string]map[string]any{}
	for _, row := range list {
		rows[row["broker"].(string)] = row
	}
	return rows, r.Code
}

// TestTrace: a request is found from any broker, wherever it is.
func TestTrace(t *testing.T) {
	t.Parallel()
	a := startBroker(t, "--name", "a")
	endpoint := fmt.Sprintf("tcp://127.0.0.1:%d", meshproc.FreePorts(t, 1))
	b := startBroker(t, "--name", "b", "--peer", a.requests, "--listen", endpoint, "--advertise", endpoint)
	linked(t, a)
	named := filepath.Join(t.TempDir(), "id")
	startWorker(t, b, "exec", "--service", "hold", "--", "sh", "-c", `echo $MD_REQUEST_ID >"$1.part"; mv "$1.part" "$1"; exec sleep 1000`, "sh", named)
	call := meshproc.Start(t, cli(t, a, "call", "--timeout", "10m", "hold"))
	id := strings.TrimSpace(appears(t, named))

	rows, code := traces(t, a, id)
	if code != 0 || rows["a"]["state"] != "sent" || fmt.Sprint(rows["a"]["holders"]) != "[broker b]" || rows["a"]["service"] != "hold" {
		t.Errorf("asked a, exit code %d, a says %v", code, rows["a"])
	}
	if rows["b"]["state"] != "running" || rows["b"]["from"] != "broker a" {
		t.Errorf("asked a, b says %v", rows["b"])
	}
	rows, code = traces(t, b, id)
	if code != 0 || rows["b"]["state"] != "running" || rows["a"]["state"] != "not asked" || rows["a"]["text"] != "it advertises no endpoint" {
		t.Errorf("asked b, exit code %d, rows %v", code, rows)
	}
	table := run(t, a, "trace", id)
	if table.Code != 0 || strings.Count(table.Stdout, "\n") != 3 || !strings.HasPrefix(table.Stdout, "BROKER  STATE") || table.Stderr != "" {
		t.Errorf("exit code %d, stderr %q, table\n%s", table.Code, table.Stderr, table.Stdout)
	}

	call.SignalGroup(t, syscall.SIGINT)
	call.Wait(t)
	meshproc.Eventually(t, "nobody knows what was given up", func() error {
		if rows, code := traces(t, a, id); code != 1 || rows["a"]["state"] != "none" || rows["b"]["state"] != "none" {
			return fmt.Errorf("exit code %d, %v", code, rows)
		}
		return nil
	})
	if r := run(t, a, "trace", id); r.Code != 1 || !strings.Contains(r.Stderr, "no broker asked knows it") {
		t.Errorf("exit code %d, stderr %q", r.Code, r.Stderr)
	}
	oneLine(t, run(t, a, "trace", "echo"), 64, `"echo" is no request id`)
	oneLine(t, run(t, nil, "--timeout", "200ms", "--broker", "tcp://127.0.0.1:1", "trace", id), 69, "connection refused")
}

// TestTraceOfPoison: what no worker survived is found, and its id is offered to shells.
func TestTraceOfPoison(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for range 3 {
		startWorker(t, b, "exec", "--service", "deadly", "--", "sh", "-c", "kill -9 $PPID; exec sleep 1000")
	}
	if r := run(t, b, "call", "--timeout", "1m", "deadly"); r.Code != 75 || !strings.Contains(r.Stderr, "worker lost") {
		t.Fatalf("exit code %d, stderr %q", r.Code, r.Stderr)
	}
	poison := list(t, b, "poison")
	if len(poison) != 1 {
		t.Fatalf("poison %v", poison)
	}
	id := poison[0]["id"].(string)
	rows, code := traces(t, b, id)
	if len(rows) != 1 || code != 0 {
		t.Fatalf("exit code %d, rows %v", code, rows)
	}
	for _, row := range rows {
		if row["state"] != "given up" || row["service"] != "deadly" || row["attempt"] != 3.0 {
			t.Errorf("row %v", row)
		}
	}
	if got := completions(t, nil, "mdcli", "--broker", b.requests, "trace", ""); len(got) != 1 || got[0] != id {
		t.Errorf("completions %q, want %s", got, id)
	}
}
