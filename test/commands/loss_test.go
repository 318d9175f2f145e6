package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// holding is a program whose first attempt writes its own and its worker's process
// id to the file that is its argument, and never ends; later ones answer.
const holding = `
if [ "$MD_ATTEMPT" = 1 ]; then
	echo $$ $PPID >"$1.part"; mv "$1.part" "$1"
	exec sleep 1000
fi
echo "attempt $MD_ATTEMPT"`

// holders waits until a program holds the request.
func holders(t *testing.T, file string) (program, worker int) {
	t.Helper()
	fields := strings.Fields(appears(t, file))
	program, _ = strconv.Atoi(fields[0])
	worker, _ = strconv.Atoi(fields[1])
	return program, worker
}

// TestWorkerKilled: when a worker is killed while it holds a request, another serves
// it, and the program of the killed one dies with it.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	const rounds = 10
	b := startBroker(t)
	workers := map[int]*meshproc.Process{}
	var took []time.Duration
	for round := range rounds {
		file := filepath.Join(t.TempDir(), "pids")
		service := fmt.Sprintf("hold%d", round)
		for range 2 {
			w := startWorker(t, b, "exec", "--service", service, "--", "sh", "-c", holding, "sh", file)
			workers[w.PID()] = w
		}
		call := meshproc.Start(t, cli(t, b, "call", "--timeout", "1m", service))
		program, worker := holders(t, file)
		if workers[worker] == nil {
			t.Fatalf("the program's parent is %d, which is no worker: is it a child of the worker?", worker)
		}
		begun := time.Now()
		workers[worker].Signal(t, syscall.SIGKILL)
		if code := call.Wait(t); code != 0 || answer(call) != "attempt 2" {
			t.Fatalf("exit code %d, said %q; want attempt 2", code, call.Output())
		}
		took = append(took, time.Since(begun))
		gone(t, program)
	}
	slices.Sort(took)
	t.Logf("from kill -9 of the worker to the end of mdcli, %d rounds: median %v, worst %v", rounds, took[rounds/2], took[rounds-1])
}

// TestOnceWorkerKilled: at most once means that nobody else gets the request, whether
// the worker or the caller wants it so; the caller learns that it may have run.
func TestOnceWorkerKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		worker, calls []string
	}{
		{"the worker says so", []string{"--once"}, nil},
		{"the caller says so", nil, []string{"--once"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t)
			dir := t.TempDir()
			script := `echo run >>"$1/runs"; ` + holding
			args := append([]string{"exec", "--service", "hold"}, c.worker...)
			args = append(args, "--", "sh", "-c", strings.ReplaceAll(script, `"$1"`, `"$1/pids"`), "sh", dir)
			workers := map[int]*meshproc.Process{}
			for range 2 {
				w := startWorker(t, b, args...)
				workers[w.PID()] = w
			}
			call := meshproc.Start(t, cli(t, b, append([]string{"call", "--timeout", "1m", "hold"}, c.calls...)...))
			program, worker := holders(t, filepath.Join(dir, "pids"))
			workers[worker].Signal(t, syscall.SIGKILL)
			if code := call.Wait(t); code != 75 || !strings.Contains(call.Output(), "worker lost") || !strings.Contains(call.Output(), "may have run") {
				t.Errorf("exit code %d, said %q; want 75: worker lost, may have run", code, call.Output())
			}
			gone(t, program)
			if runs, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil || string(runs) != "run\n" {
				t.Errorf("it ran %q times (%v), want once", runs, err)
			}
		})
	}
}

// TestInterruptedCall: Ctrl-C of the caller ends the program that runs for it.
func TestInterruptedCall(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	file := filepath.Join(t.TempDir(), "pids")
	startWorker(t, b, "exec", "--service", "hold", "--", "sh", "-c", holding, "sh", file)
	call := meshproc.Start(t, cli(t, b, "call", "--timeout", "10m", "hold"))
	program, _ := holders(t, file)
	call.SignalGroup(t, syscall.SIGINT)
	if code := call.Wait(t); code != 130 {
		t.Errorf("exit code %d, want 130; said %q", code, call.Output())
	}
	gone(t, program)
}

// TestBrokerKilledUnderProgram: a worker that loses its broker ends what it runs, and
// serves again when the broker is back.
func TestBrokerKilledUnderProgram(t *testing.T) {
	t.Parallel()
	port := meshproc.FreePorts(t, 1)
	listen := []string{"--listen", fmt.Sprintf("tcp://127.0.0.1:%d", port)}
	at := func() *broker {
		args := append([]string{"--publish", "", "--subscribe", "", "--http", ""}, listen...)
		p := meshproc.Start(t, meshproc.Command(t, "mdbroker", args...))
		return &broker{Process: p, requests: p.Endpoint(t, "requests")}
	}
	b := at()
	file := filepath.Join(t.TempDir(), "pids")
	startWorker(t, b, "exec", "--service", "hold", "--", "sh", "-c", holding, "sh", file)
	call := meshproc.Start(t, cli(t, b, "call", "--timeout", "1m", "hold"))
	program, _ := holders(t, file)
	b.Kill(t)
	gone(t, program)
	at()
	// The client tries again as long as its time lasts, with the same request id.
	if code := call.Wait(t); code != 0 || answer(call) != "attempt 2" {
		t.Errorf("exit code %d, said %q; want attempt 2", code, call.Output())
	}
}
