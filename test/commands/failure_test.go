package commands

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// failure is what -o json prints of a call that failed.
type failure struct {
	Service, ID, Status, Text, Attach string
	MayHaveRun                        bool `json:"may_have_run"`
}

func parseFailure(t *testing.T, out string) (f failure) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatalf("printed %q: %v", out, err)
	}
	return f
}

// TestFailureAsJSON: a script learns of an error what a person does, and whether the
// request may have run.
func TestFailureAsJSON(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "exec", "--service", "bad", "--", "sh", "-c", "echo out of luck >&2; exit 7")
	startWorker(t, b, "echo", "--service", "slow", "--delay", "1m", "--drain-timeout", "0")
	for _, c := range []struct {
		args   []string
		code   int
		status string
		mayRun bool
		text   string
	}{
		{[]string{"call", "bad", "x"}, 1, "APP_ERROR", true, "out of luck"},
		{[]string{"call", "--stream", "bad", "x"}, 1, "APP_ERROR", true, "out of luck"},
		{[]string{"call", "--no-wait", "nobody"}, 69, "NO_WORKER", false, "nobody offers"},
		{[]string{"call", "--timeout", "300ms", "nobody"}, 75, "EXPIRED", false, "no worker offers it"},
		{[]string{"call", "--timeout", "300ms", "slow"}, 75, "EXPIRED", true, "may still be running"},
		{[]string{"--broker", "tcp://127.0.0.1:1", "call", "--timeout", "300ms", "slow"}, 69, "NO_BROKER", false, "connection refused"},
	} {
		at := b
		if c.args[0] == "--broker" {
			at = nil
		}
		meshproc.Eventually(t, fmt.Sprintf("%q says so", c.args), func() error { // a slow machine may find out itself before the broker says why
			r := run(t, at, append([]string{"-o", "json"}, c.args...)...)
			f := parseFailure(t, r.Stdout)
			if r.Code != c.code || f.Status != c.status || f.MayHaveRun != c.mayRun || !strings.Contains(f.Text, c.text) || len(f.ID) != 32 || !strings.Contains(r.Stderr, f.Text) {
				return fmt.Errorf("exit code %d, %+v, stderr %q; want %d, %s, %v, %q", r.Code, f, r.Stderr, c.code, c.status, c.mayRun, c.text)
			}
			return nil
		})
	}
}

// TestLostWorkerAsJSON: a call that runs at most once may have run when its worker dies.
func TestLostWorkerAsJSON(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	w := startWorker(t, b, "echo", "--delay", "1m")
	call := meshproc.Start(t, cli(t, b, "-o", "json", "call", "--once", "--timeout", "1m", "echo", "x"))
	isRunning(t, b, "echo")
	w.Signal(t, syscall.SIGKILL)
	if code := call.Wait(t); code != 75 || !strings.Contains(call.Output(), `"status":"WORKER_LOST"`) || !strings.Contains(call.Output(), `"may_have_run":true`) {
		t.Errorf("exit code %d, said %q", code, call.Output())
	}
}

func isRunning(t *testing.T, b *broker, service string) {
	t.Helper()
	meshproc.Eventually(t, service+" runs", func() error {
		rows := list(t, b, "services")
		for _, row := range rows {
			if row["name"] == service && row["running"] == 1.0 {
				return nil
			}
		}
		return fmt.Errorf("services %v", rows)
	})
}

// TestQueuedIsNotRun: a call that only waited is not said to have run.
func TestQueuedIsNotRun(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo", "--delay", "1m", "--drain-timeout", "0")
	meshproc.Start(t, cli(t, b, "call", "--timeout", "1m", "echo", "first"))
	isRunning(t, b, "echo")
	meshproc.Eventually(t, "the broker says why", func() error { // a slow machine may find out itself before
		r := run(t, b, "call", "--timeout", "500ms", "echo", "second")
		if r.Code != 75 || !strings.Contains(r.Stderr, "it waited for a worker, and did not run") {
			return fmt.Errorf("exit code %d, stderr %q", r.Code, r.Stderr)
		}
		return nil
	})
}

// TestAttach: a detached call goes on after Ctrl-C, and its answer can be had by the
// ticket that was said, once it is there, and by nobody else.
func TestAttach(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	gate := file(t, "gate", "")
	startWorker(t, b, "exec", "--service", "gated", "--", "sh", "-c", "until [ -s "+gate+" ]; do sleep 0.02; done; tr a-z A-Z")
	call := meshproc.Start(t, cli(t, b, "call", "--detach", "--timeout", "1m", "gated", "hello"))
	isRunning(t, b, "gated")
	call.Signal(t, syscall.SIGINT)
	ticket := strings.TrimSpace(call.Says(t, "its answer: mdcli attach "))
	if code := call.Wait(t); code != 130 {
		t.Errorf("Ctrl-C: exit code %d", code)
	}
	oneLine(t, run(t, b, "attach", "--timeout", "300ms", ticket), 75, "not done within 300ms")
	id, _, _ := strings.Cut(ticket, ".")
	oneLine(t, run(t, b, "attach", id+".guess"), 1, "unknown")
	oneLine(t, run(t, b, "attach", id), 64, "is no ticket")
	open(t, gate)
	want(t, b, "HELLO", "attach", "--timeout", "30s", ticket)
	want(t, b, "HELLO", "attach", ticket) // it is kept for a while
}

// open writes a word into a file that a program under test waits for.
func open(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("open"), 0o600); err != nil {
		t.Fatal(err)
	}
}
