package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/supervisor"
)

func TestLifeAndCommands(t *testing.T) {
	t.Parallel()
	d := start(t, file(t, folder(t), sleepers))

	code, out, _ := call(t, "-o", "json", "status", "--socket", d.socket)
	var fields []map[string]any
	if err := json.Unmarshal([]byte(out), &fields); code != 0 || err != nil || len(fields) != 3 {
		t.Fatalf("status: exit code %d, %v, %s", code, err, out)
	}
	for i, want := range []string{"one", "many:0", "many:1"} {
		f := fields[i]
		since, err := time.Parse(time.RFC3339, f["since"].(string))
		if len(f) != 5 || f["name"] != want || f["state"] != "up" || f["pid"].(float64) < 1 || f["restarts"] != 0.0 || err != nil || since.Location() != time.UTC {
			t.Errorf("child %d is %v", i, f)
		}
	}

	for _, c := range []struct {
		args   string
		code   int
		stdout string // a pattern
		stderr string // a pattern
	}{
		{"status", 0, `(?s)^NAME +STATE +PID +FOR +RESTARTS +REASON\none +up +\d+ +\S+ +0 +-\n.*many:1`, `^$`},
		{"status many:*", 0, `many:0(?s:.*)many:1`, `^$`},
		{"stop many:1", 0, `many:1 +down +- `, `^$`},
		{"status many:1", 3, `many:1 +down +- +\S+ +0 +stopped\n`, `^$`},
		{"status many:*", 3, `many:1 +down +- `, `^$`},
		{"status many:0", 0, `many:0 +up +`, `^$`},
		{"start many:*", 0, `many:1 +up +\d+ `, `^$`},
		{"restart all", 0, `one +up +\d+ `, `^$`},
		{"stop", 64, `^$`, `^mdsupervisor: stop what\? name children, GROUP:\* or all \(see mdsupervisor stop --help\)\n$`},
		{"stop nobody", 1, `^$`, `^mdsupervisor: unknown child "nobody"; there are one, many:\* \(2\), all\n$`},
		{"status -o yaml", 64, `^$`, `--output is "yaml"; choose table or json`},
		{"status --sockt x", 64, `^$`, `^mdsupervisor: unknown flag: --sockt; did you mean --socket\? \(see mdsupervisor status --help\)\n$`},
		{"run --config " + filepath.Join(filepath.Dir(d.socket), "mesh.toml"), 69, `^$`, fmt.Sprintf(`another supervisor is running: pid %d holds`, d.cmd.Process.Pid)},
	} {
		code, out, errs := call(t, append(strings.Fields(c.args), "--socket", d.socket)...)
		if code != c.code || !regexp.MustCompile(c.stdout).MatchString(out) || !regexp.MustCompile(c.stderr).MatchString(errs) {
			t.Errorf("%s: exit code %d\nstdout %s\nstderr %s", c.args, code, out, errs)
		}
	}

	children := d.started()
	if code, out, errs := call(t, "shutdown", "--socket", d.socket); code != 0 || out != "" || errs != "" {
		t.Errorf("shutdown: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	if code := d.ended(); code != 0 {
		t.Errorf("mdsupervisor ended with %d", code)
	}
	for _, c := range children {
		if !gone(c.PID) {
			t.Errorf("%s (pid %d) is left", c.Name, c.PID)
		}
	}
	if code, _, errs := call(t, "status", "--socket", d.socket); code != 3 || !strings.Contains(errs, "no supervisor is running at "+d.socket+"; start one with: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("status afterwards: exit code %d, stderr %q", code, errs)
	}
	if code, _, errs := call(t, "stop", "one", "--socket", d.socket); code != 69 {
		t.Errorf("stop afterwards: exit code %d, stderr %q", code, errs)
	}
}

func TestSignalsEndAll(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			d := start(t, file(t, folder(t), sleepers))
			children := d.started()
			if err := d.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if note := <-d.told; note != "STOPPING=1" {
				t.Errorf("told the service manager %q", note)
			}
			if code := d.ended(); code != 0 {
				t.Errorf("ended with %d", code)
			}
			for _, c := range children {
				if !gone(c.PID) {
					t.Errorf("%s (pid %d) is left", c.Name, c.PID)
				}
			}
		})
	}
}

// TestSecondInterruptKills: a child that does not end may not make a second
// Ctrl-C leave children behind. A SIGTERM beside the first one changes nothing.
func TestSecondInterruptKills(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	d := start(t, file(t, dir, fmt.Sprintf("[[child]]\nname = \"s\"\ncommand = [%q, \"stubborn\"]\nstop_timeout = \"1h\"\n", os.Args[0])), "--stop-timeout", "1h")
	log := filepath.Join(d.socket+".logs", "s.log")
	for end := time.After(guard); ; {
		if text, _ := os.ReadFile(log); bytes.Contains(text, []byte("up")) {
			break
		}
		select {
		case <-end:
			t.Fatal("the child did not come up")
		case <-time.After(5 * time.Millisecond):
		}
	}
	pid := d.status()[0].PID
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.line("stopping all children")
	for range 3 {
		if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if c := d.status()[0]; c.State != "stopping" || c.PID != pid {
			t.Fatalf("after SIGTERM: %+v", c)
		}
	}
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.ended(); code != 0 || !gone(pid) {
		t.Errorf("ended with %d, child gone: %v", code, gone(pid))
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	d := start(t, file(t, folder(t), sleepers), "--http", "127.0.0.1:0")
	base := d.line(`^listening role=http endpoint=(http://127\.0\.0\.1:\d+)$`)[1]
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	d.started()
	code, body := get("/status")
	var children []supervisor.ChildStatus
	if err := json.Unmarshal([]byte(body), &children); code != 200 || err != nil || !reflect.DeepEqual(children, d.status()) {
		t.Errorf("/status: %d, %v, %s", code, err, body)
	}
	if code, body := get("/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, _ := get("/nothing"); code != 404 {
		t.Errorf("/nothing: %d", code)
	}
	if code, _, errs := call(t, "run", "--config", filepath.Join(filepath.Dir(d.socket), "mesh.toml"), "--socket", d.socket+"2", "--http", strings.TrimPrefix(base, "http://")); code != 69 || !strings.Contains(errs, "choose another address with --http") {
		t.Errorf("address in use: exit code %d, stderr %q", code, errs)
	}
	same := []string{"run", "--config", filepath.Join(filepath.Dir(d.socket), "mesh.toml"), "--socket", d.socket, "--http"}
	if code, _, errs := call(t, append(same, strings.TrimPrefix(base, "http://"))...); code != 69 || !strings.Contains(errs, "another supervisor is running") {
		t.Errorf("the same supervisor again: exit code %d, stderr %q", code, errs)
	}
	if code, _, errs := call(t, append(same, "0.0.0.0:0")...); code != 78 || !strings.Contains(errs, "add --insecure") {
		t.Errorf("open to the network: exit code %d, stderr %q", code, errs)
	}
	if code, _, errs := call(t, append(same, "0.0.0.0:0", "--insecure")...); code != 69 || !strings.Contains(errs, "another supervisor is running") {
		t.Errorf("with --insecure: exit code %d, stderr %q", code, errs)
	}
}

func TestBadFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"syntax", "[[child]]\nname = \"a\ncommand = []\n", ":2:10: "},
		{"unknown key", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nnumproc = 2\n", ":4:1: unknown key \"child.numproc\"\n  numproc = 2\n  ^\n"},
		{"type", "[[child]]\nname = \"a\"\ncommand = \"x\"\n", ":3:11: "},
		{"policy", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nrestart = \"sometimes\"\n", ":4:11: restart is \"sometimes\"; choose permanent, transient or temporary\n  restart = \"sometimes\"\n            ^\n"},
		{"doubled name", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\n[[child]]\nname = \"a\"\ncommand = [\"x\"]\n", ":5:8: there is another child named \"a\"\n"},
		{"no command", "[[child]]\nname = \"a\"\n", ":1:3: child a has no command"},
		{"no child", "log_dir = \"x\"\n", ": names no child; write at least one [[child]] with name and command"},
		{"bad name", "[[child]]\nname = \"a:b\"\ncommand = [\"x\"]\n", ":2:8: \"a:b\" is no name for a child"},
		{"numprocs", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nnumprocs = 0\n", ":4:12: numprocs is 0; choose 1 to 1000"},
		{"signal", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nstop_signal = \"STOPIT\"\n", ":4:15: \"STOPIT\" is no signal"},
		{"duration", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nstop_timeout = \"soon\"\n", ":4:16: \"soon\" is no duration"},
		{"environment", "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nenvironment = {\"A=B\" = \"1\"}\n", ": \"A=B\" cannot be set as an environment variable"},
		{"missing program", "[[child]]\nname = \"a\"\ncommand = [\"no-such-program\"]\n", ": child a: no-such-program: found neither beside mdsupervisor nor in PATH\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := file(t, folder(t), c.text)
			code, out, errs := call(t, "run", "--config", path, "--check-config", "--socket", filepath.Join(filepath.Dir(path), "s"))
			if code != 78 || out != "" || !strings.HasPrefix(errs, "mdsupervisor: "+path) || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, stderr\n%s\nwant %s", code, errs, c.want)
			}
		})
	}
	if code, out, errs := call(t, "run", "--config", file(t, folder(t), sleepers), "--check-config"); code != 0 || out != "" || errs != "configuration ok\n" {
		t.Errorf("good file: exit code %d, %q %q", code, out, errs)
	}
	if code, _, errs := call(t, "run", "--config", "/no/such.toml", "--socket", "/tmp/s"); code != 78 || errs != "mdsupervisor: /no/such.toml: no such file\n" {
		t.Errorf("no file: exit code %d, %q", code, errs)
	}
	if code, _, errs := call(t, "run"); code != 64 || !strings.Contains(errs, "name a file with --config FILE") {
		t.Errorf("no --config: exit code %d, %q", code, errs)
	}
}

// TestExampleInHelp: what --help shows is a file that works.
func TestExampleInHelp(t *testing.T) {
	t.Parallel()
	_, help, _ := call(t, "run", "--help")
	_, rest, _ := strings.Cut(help, "The file:")
	example, _, found := strings.Cut(rest, "Also:")
	if !found {
		t.Fatalf("no example in\n%s", help)
	}
	if _, err := supervisor.Load(file(t, folder(t), example)); err != nil {
		t.Error(err)
	}
}

// TestChildrenDoNotInheritOurFlags: MD_CONFIG names our file, not theirs.
func TestChildrenDoNotInheritOurFlags(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	path := file(t, dir, "[[child]]\nname = \"env\"\ncommand = [\"sh\", \"-c\", \"env; echo done; sleep 1000\"]\n")
	told := notifications(t, filepath.Join(dir, "n"))
	cmd := program(context.Background(), "run")
	socket := filepath.Join(dir, "s.sock")
	cmd.Env = append(cmd.Env, "MD_CONFIG="+path, "MD_SOCKET="+socket, "MD_LOG_LEVEL=warn", "MD_BROKER=tcp://127.0.0.1:1",
		"NOTIFY_SOCKET="+filepath.Join(dir, "n"), "WATCHDOG_USEC=20000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if note := <-told; note != want {
			t.Errorf("told the service manager %q, want %q", note, want)
		}
	}
	var text []byte
	for end := time.After(guard); !bytes.Contains(text, []byte("done")); {
		text, _ = os.ReadFile(filepath.Join(socket+".logs", "env.log"))
		select {
		case <-end:
			t.Fatalf("the child wrote %q", text)
		case <-time.After(5 * time.Millisecond):
		}
	}
	for _, name := range []string{"MD_CONFIG=", "MD_SOCKET=", "NOTIFY_SOCKET=", "WATCHDOG_USEC="} {
		if bytes.Contains(text, []byte(name)) {
			t.Errorf("the child inherited %s", name)
		}
	}
	for _, pair := range []string{"MD_LOG_LEVEL=warn", "MD_BROKER=tcp://127.0.0.1:1", "MD_SUPERVISED=env/"} {
		if !bytes.Contains(text, []byte(pair)) {
			t.Errorf("the child lacks %s", pair)
		}
	}
}

func TestHelpShowsExamples(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"status", "--help"}, {"start", "--help"}, {"stop", "--help"}, {"restart", "--help"}, {"reload", "--help"}, {"shutdown", "--help"}} {
		if code, out, _ := call(t, args...); code != 0 || !strings.Contains(out, "Examples:\n  mdsupervisor ") {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
	if code, out, _ := call(t, "--version"); code != 0 || !strings.HasPrefix(out, "mdsupervisor ") {
		t.Errorf("--version: exit code %d, %q", code, out)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 1500 * time.Millisecond: "1s", 61 * time.Second: "1m1s",
		time.Hour + 2*time.Minute + 3*time.Second: "1h2m", 76*time.Hour + time.Minute: "3d4h",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
}
