package supervisor

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func load(t *testing.T, text string) (*File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func TestDefaultsAndEveryKey(t *testing.T) {
	t.Parallel()
	f, err := load(t, `
log_dir = "logs"

[[child]]
name = "plain"
command = ["x"]

[[child]]
name = "full"
command = ["x", "-v"]
numprocs = 2
restart = "transient"
group = "workers"
environment = { B = "2", A = "1" }
directory = "sub"
stop_signal = "SIGINT"
stop_timeout = "0s"
ready = "notify"
start_timeout = "1m"
min_uptime = "5s"
max_failures = 0
fatal_exits = []
`)
	if err != nil {
		t.Fatal(err)
	}
	got := f.children()
	if len(got) != 3 {
		t.Fatalf("%d children", len(got))
	}
	plain := &child{name: "plain", definition: definition{entry: "plain", group: "plain", command: []string{"x"}, restart: Permanent, stopSignal: syscall.SIGTERM,
		stopTimeout: 10 * time.Second, startTimeout: 10 * time.Second, minUptime: time.Second, maxFailures: 10, fatalExits: []int{64, 77, 78}}}
	plain.digest = plain.sum()
	if !reflect.DeepEqual(got[0], plain) {
		t.Errorf("plain is %+v", got[0])
	}
	full := &child{name: "full:1", definition: definition{entry: "full", group: "workers", command: []string{"x", "-v"}, environment: []string{"A=1", "B=2"},
		directory: filepath.Join(f.folder, "sub"), restart: Transient, stopSignal: syscall.SIGINT, notifies: true, startTimeout: time.Minute,
		minUptime: 5 * time.Second, fatalExits: []int{}}}
	full.digest = full.sum()
	if !reflect.DeepEqual(got[2], full) {
		t.Errorf("full is %+v", got[2])
	}
	if dir := (Config{File: f, Socket: "/run/s"}).logDir(); dir != filepath.Join(f.folder, "logs") {
		t.Errorf("log folder %s", dir)
	}
}

// TestBareNumberIsNoDuration: the message shows the line, not another one with the
// same number.
func TestBareNumberIsNoDuration(t *testing.T) {
	t.Parallel()
	_, err := load(t, "[[child]]\nname = \"a\"\ncommand = [\"x\"]\nnumprocs = 5\nstop_timeout = 5\nmax_failures = 5\n")
	if err == nil || !strings.Contains(err.Error(), "mesh.toml:5:16: \"5\" is no duration; write a number with a unit") || !strings.Contains(err.Error(), "  stop_timeout = 5\n") {
		t.Errorf("error %v", err)
	}
}

func TestTooManyChildren(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		text.WriteString("[[child]]\nname = \"" + name + "\"\ncommand = [\"x\"]\nnumprocs = 1000\n")
	}
	if _, err := load(t, text.String()); err == nil || !strings.Contains(err.Error(), "asks for 5000 children; the limit is 4096") {
		t.Errorf("error %v", err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "tool")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, directory, want string }{
		{program, "", program},
		{"./tool", dir, program},
		{"../" + filepath.Base(dir) + "/tool", dir, program},
		{filepath.Base(self), "", self}, // beside our own binary
		{"tool", dir, ""},               // a bare name is not looked for in the child's folder
		{"./none", dir, ""},
		{dir, "", ""},
	} {
		got, err := lookup(c.name, c.directory)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("lookup(%q, %q) = %q, %v, want %q", c.name, c.directory, got, err, c.want)
		}
	}
}

// TestMissingDirectory: the folder is named, not the command.
func TestMissingDirectory(t *testing.T) {
	t.Parallel()
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := lookup("sh", gone); err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("lookup: %v", err)
	}
}
