package foreign

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the documents and the examples show must run as it stands there.

// start runs a program of an example in its own language.
func start(t testing.TB, file string, args ...string) *process {
	t.Helper()
	if strings.HasSuffix(file, ".php") {
		needPHP(t)
		return run(t, php, append([]string{file}, args...)...)
	}
	return run(t, file, args...)
}

// says waits for the end of a program and fails unless it wrote this one line.
func says(t *testing.T, p *process, want string) {
	t.Helper()
	if e := p.next(t); e.Event != "text" || e.Error != want {
		t.Errorf("%s says %q, want %q", p.name, e.Error, want)
	}
	await(t, "end of "+p.name, p.exited)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s: exit code %d", p.name, code)
	}
}

const examples = "../../examples"

func TestExamples(t *testing.T) {
	t.Parallel()
	for _, workerFile := range []string{"python/worker.py", "php/worker.php"} {
		t.Run(workerFile, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t)
			start(t, filepath.Join(examples, workerFile), b.endpoint)
			for _, clientFile := range []string{"python/client.py", "php/client.php"} {
				says(t, start(t, filepath.Join(examples, clientFile), b.endpoint, "hello world"), "hello world")
			}
		})
	}
}

// The example workers live through idle times and through a restart of the broker.
func TestExampleWorkersReturn(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"python/worker.py", "php/worker.php"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			first := startBroker(t)
			start(t, filepath.Join(examples, file), first.endpoint)
			ask(t, first, "echo")
			first.kill(t)
			second := startBroker(t, "--listen", first.endpoint)
			ask(t, second, "echo")
		})
	}
}

// The client of docs/PROTOCOL.md.
func TestNativeClientOfTheDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "```python native-client\n")
	program, _, end := strings.Cut(after, "```")
	if !ok || !end {
		t.Fatal("no native client in the document")
	}
	file := filepath.Join(t.TempDir(), "client.py")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startBroker(t)
	// It asks before there is a worker, so that it has to live through some waiting.
	asking := start(t, file, b.endpoint, "echo", "hello world")
	p := startPeer(t)
	w := worker02.open(t, p, b, "echo")
	address := w.request(t, "hello world")
	for range 5 { // longer than a native session may be silent
		if m := w.next(t); !isHeartbeat(m) {
			t.Fatalf("got %q", m)
		}
	}
	w.part(t, address, "part")
	w.answer(t, address, "hello ", "yourself")
	says(t, asking, "hello yourself")

	native := answerers[len(answerers)-1]
	refuser := native.open(t, p, b, "no")
	failing := start(t, file, b.endpoint, "no", "x")
	refuser.fail(t, refuser.request(t, "x"), "not today")
	await(t, "end of the client", failing.exited)
	if code := failing.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(failing.log.String(), "status 520") {
		t.Errorf("exit code %d, %s", code, &failing.log)
	}
}
