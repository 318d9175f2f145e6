package commands

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// pair starts two linked brokers.
func pair(t *testing.T) (a, b *broker) {
	t.Helper()
	a = startBroker(t, "--name", "a")
	b = startBroker(t, "--name", "b", "--peer", a.requests)
	linked(t, a)
	return a, b
}

// TestServiceAtPeer: what only the peer offers is reached through it, in both
// directions of the one link.
func TestServiceAtPeer(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	startWorker(t, b, "echo", "--service", "at-b")
	startWorker(t, a, "echo", "--service", "at-a")
	startWorker(t, a, "echo", "--service", "hidden", "--scope", "local")
	want(t, a, "hello", "call", "at-b", "hello")
	want(t, b, "hello", "call", "at-a", "hello")
	want(t, a, "hello", "call", "hidden", "hello")
	oneLine(t, run(t, b, "call", "--no-wait", "hidden", "hello"), 69, "no worker")
	names := map[any]bool{}
	for _, row := range list(t, a, "brokers") {
		names[row["name"]] = true
	}
	if !names["a"] || !names["b"] {
		t.Errorf("brokers %v, want a and b", names)
	}
}

// TestPeerKilled: a peer that dies while its worker holds a request: at least once,
// another worker has it; at most once, the caller learns that it may have run.
func TestPeerKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"at least once", nil, 0, "attempt 2"},
		{"at most once", []string{"--once"}, 75, "peer lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			file := filepath.Join(t.TempDir(), "pids")
			program := []string{"exec", "--service", "hold", "--", "sh", "-c", holding, "sh", file}
			startWorker(t, b, program...)
			call := meshproc.Start(t, cli(t, a, append([]string{"call", "--timeout", "1m", "hold"}, c.args...)...))
			pid, _ := holders(t, file)
			startWorker(t, a, program...)
			b.Kill(t)
			if code := call.Wait(t); code != c.code || !strings.Contains(call.Output(), c.says) {
				t.Errorf("exit code %d, said %q; want %d, %s", code, call.Output(), c.code, c.says)
			}
			gone(t, pid)
		})
	}
}
