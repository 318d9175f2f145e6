package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

func TestMain(m *testing.M) { meshproc.Main(m) }

// broker is an mdbroker on ports of its own.
type broker struct {
	*meshproc.Process
	requests, publish, subscribe, http string
}

func startBroker(t *testing.T, flags ...string) *broker {
	t.Helper()
	args := append([]string{"--listen", "tcp://127.0.0.1:0", "--publish", "tcp://127.0.0.1:0",
		"--subscribe", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"}, flags...)
	p := meshproc.Start(t, meshproc.Command(t, "mdbroker", args...))
	return &broker{p, p.Endpoint(t, "requests"), p.Endpoint(t, "publish"), p.Endpoint(t, "subscribe"), p.Endpoint(t, "http")}
}

// startWorker runs mdworker at b until the test ends; it is ready when this returns.
func startWorker(t *testing.T, b *broker, args ...string) *meshproc.Process {
	t.Helper()
	p := meshproc.Start(t, meshproc.Command(t, "mdworker", append([]string{"--broker", b.requests}, args...)...))
	p.Says(t, "offering service")
	return p
}

// cli prepares mdcli for a broker; with nil it is told of none.
func cli(t *testing.T, b *broker, args ...string) *exec.Cmd {
	t.Helper()
	if b != nil {
		args = append([]string{"--broker", b.requests}, args...)
	}
	return meshproc.Command(t, "mdcli", args...)
}

// run runs mdcli to its end.
func run(t *testing.T, b *broker, args ...string) meshproc.Result {
	t.Helper()
	return meshproc.Run(t, cli(t, b, args...))
}

// want runs mdcli and fails the test unless it succeeds and prints exactly out.
func want(t *testing.T, b *broker, out string, args ...string) {
	t.Helper()
	r := run(t, b, args...)
	if r.Code != 0 || r.Stdout != out || r.Stderr != "" {
		t.Fatalf("mdcli %q: exit code %d, stdout %.200q, stderr %q; want %.200q", args, r.Code, r.Stdout, r.Stderr, out)
	}
}

// oneLine checks that a command failed with a code and one line that has all parts.
func oneLine(t *testing.T, r meshproc.Result, code int, parts ...string) {
	t.Helper()
	if r.Code != code || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q; want %d and one line of talk", r.Code, r.Stdout, r.Stderr, code)
	}
	for _, part := range parts {
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("stderr %q does not say %q", r.Stderr, part)
		}
	}
}

// list runs a listing with -o json.
func list(t *testing.T, b *broker, listing string) (rows []map[string]any) {
	t.Helper()
	r := run(t, b, "-o", "json", listing)
	if r.Code != 0 {
		t.Fatalf("mdcli %s: exit code %d: %s", listing, r.Code, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil {
		t.Fatalf("mdcli %s printed %q: %v", listing, r.Stdout, err)
	}
	return rows
}

// answer is what a call in the background printed, without the talk of its library,
// which may warn of a connection that has ended.
func answer(p *meshproc.Process) string {
	var data []string
	for line := range strings.SplitSeq(p.Output(), "\n") {
		if !strings.Contains(line, " [WARN] ") {
			data = append(data, line)
		}
	}
	return strings.Join(data, "\n")
}

// linked waits until b has a link that is up.
func linked(t *testing.T, b *broker) {
	t.Helper()
	meshproc.Eventually(t, "the link is up", func() error {
		rows := list(t, b, "peers")
		for _, row := range rows {
			if row["state"] == "up" {
				return nil
			}
		}
		return fmt.Errorf("peers %v", rows)
	})
}

// appears waits for a file that a program under test makes and returns its text.
func appears(t *testing.T, file string) (text string) {
	t.Helper()
	meshproc.Eventually(t, filepath.Base(file)+" appears", func() error {
		octets, err := os.ReadFile(file)
		text = string(octets)
		return err
	})
	return text
}

// gone waits until a process is.
func gone(t *testing.T, pid int) {
	t.Helper()
	meshproc.Eventually(t, "the program is gone", func() error {
		if meshproc.Alive(pid) {
			return fmt.Errorf("process %d lives", pid)
		}
		return nil
	})
}

const python = "/usr/bin/python3"

// events starts testdata/events.py and returns its standard input.
func events(t *testing.T, args ...string) (*meshproc.Process, io.Writer) {
	t.Helper()
	if out, err := exec.Command(python, "-c", "import zmq").CombinedOutput(); err != nil {
		text := fmt.Sprintf("python3-zmq is missing (apt-get install python3-zmq): %v %s", err, out)
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	cmd := exec.Command(python, append([]string{"-u", "testdata/events.py"}, args...)...)
	cmd.Env = meshproc.Environment(t)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return meshproc.Start(t, cmd), in
}
