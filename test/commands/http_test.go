package commands

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// ask does what curl would.
func ask(t *testing.T, method, url string, body []byte) (code int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	octets, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(octets)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "--name", "web")
	startWorker(t, b, "echo")
	startWorker(t, b, "exec", "--service", "bad", "--", "sh", "-c", "echo out of luck >&2; exit 7")
	binary := "\x00\x01\xff"
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/healthz", "", 200, "ok\n"},
		{"GET", "/readyz", "", 200, "ready\n"},
		{"POST", "/call/echo", binary, 200, binary},
		{"POST", "/call/echo", "", 200, ""},
		{"POST", "/call/bad", "x", 500, "out of luck"},
		{"POST", "/call/nobody?timeout=100ms", "x", 504, "no worker offers \"nobody\""},
		{"POST", "/call/nobody?no-wait", "x", 404, "nobody offers \"nobody\""},
		{"POST", "/call/echo?no-wait", "x", 200, "x"},
		{"POST", "/call/echo?timout=1s", "x", 400, "unknown parameter \"timout\""},
		{"POST", "/call/echo?timeout=soon", "x", 400, "want a duration"},
		{"GET", "/call/echo", "", 405, ""},
		{"GET", "/nothing", "", 404, ""},
	} {
		code, text := ask(t, c.method, b.http+c.path, []byte(c.body))
		if code != c.code || c.code == 200 && text != c.want || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, code, text, c.code, c.want)
		}
	}
	_, text := ask(t, "GET", b.http+"/state", nil)
	var state struct {
		Name     string
		Services []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(text), &state); err != nil || state.Name != "web" || len(state.Services) < 2 {
		t.Errorf("state %.300s: %v", text, err)
	}
	_, text = ask(t, "GET", b.http+"/metrics", nil)
	for _, line := range []string{
		`mdmesh_broker_workers{service="echo"} 1`, `mdmesh_broker_queue_requests{service="echo"} 0`,
		"# TYPE mdmesh_broker_redelivered_total counter", "mdmesh_broker_connections ", `mdmesh_broker_drops_total{reason="late"} 0`,
		`mdmesh_broker_wait_seconds_bucket{service="echo",le="+Inf"}`, `mdmesh_broker_run_seconds_count{service="echo"}`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("metrics lack %q", line)
		}
	}
}

// TestHTTPOff: no listener, no line about one.
func TestHTTPOff(t *testing.T) {
	t.Parallel()
	p := meshproc.Start(t, meshproc.Command(t, "mdbroker", "--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", ""))
	p.Endpoint(t, "requests")
	want(t, &broker{Process: p, requests: p.Endpoint(t, "requests")}, "[]\n", "-o", "json", "workers")
	if said := p.Output(); strings.Count(said, "listening") != 1 {
		t.Errorf("said %q, want one endpoint", said)
	}
}
