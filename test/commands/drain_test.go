package commands

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// TestDrain: SIGTERM lets a running request finish; the process ends with 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	const waiting = `touch "$1/started"; while [ ! -e "$1/go" ]; do sleep 0.02; done; echo done`
	for _, c := range []struct {
		name string
		pick func(b *broker, w *meshproc.Process) *meshproc.Process
	}{
		{"mdworker", func(_ *broker, w *meshproc.Process) *meshproc.Process { return w }},
		{"mdbroker", func(b *broker, _ *meshproc.Process) *meshproc.Process { return b.Process }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, "--drain-timeout", "1m")
			dir := t.TempDir()
			w := startWorker(t, b, "exec", "--service", "wait", "--drain-timeout", "1m", "--", "sh", "-c", waiting, "sh", dir)
			call := meshproc.Start(t, cli(t, b, "call", "--timeout", "1m", "wait"))
			appears(t, filepath.Join(dir, "started"))
			p := c.pick(b, w)
			p.Signal(t, syscall.SIGTERM)
			p.Says(t, "draining")
			if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if code := call.Wait(t); code != 0 || answer(call) != "done" {
				t.Errorf("the caller got %d, %q; want done", code, call.Output())
			}
			if code := p.Wait(t); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
		})
	}
}

// TestDrainTimeout: what does not finish in time is given up; the other worker has it.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	file := filepath.Join(t.TempDir(), "pids")
	workers := map[int]*meshproc.Process{}
	for range 2 {
		w := startWorker(t, b, "exec", "--service", "hold", "--drain-timeout", "0", "--", "sh", "-c", holding, "sh", file)
		workers[w.PID()] = w
	}
	call := meshproc.Start(t, cli(t, b, "call", "--timeout", "1m", "hold"))
	program, worker := holders(t, file)
	workers[worker].Signal(t, syscall.SIGTERM)
	if code := workers[worker].Wait(t); code != 0 {
		t.Errorf("the worker's exit code %d, want 0", code)
	}
	if code := call.Wait(t); code != 0 || answer(call) != "attempt 2" {
		t.Errorf("the caller got %d, %q; want attempt 2", code, call.Output())
	}
	gone(t, program)
}
