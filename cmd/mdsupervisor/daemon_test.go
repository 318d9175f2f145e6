package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/supervisor"
)

// guard is the longest any wait may take.
const guard = 30 * time.Second

// The test binary is also mdsupervisor itself, and a child that cannot be asked
// to end.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("PLAY") == "mdsupervisor":
		if err := os.Unsetenv("PLAY"); err != nil {
			panic(err)
		}
		main()
	case len(os.Args) == 2 && os.Args[1] == "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("up")
		<-time.After(2 * guard)
	default:
		if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
}

// folder returns one with a path short enough for a socket.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mdsup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func file(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "mesh.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PLAY=mdsupervisor")
	return cmd
}

// call runs a command to its end.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	cmd := program(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// daemon is a running "mdsupervisor run".
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	lines  chan string   // its standard error
	told   <-chan string // what it tells the service manager after READY=1
	exit   chan int
}

// start runs mdsupervisor and waits until systemd would take it for ready.
func start(t *testing.T, config string, args ...string) *daemon {
	t.Helper()
	dir := filepath.Dir(config)
	told := notifications(t, filepath.Join(dir, "n"))
	d := &daemon{t: t, socket: filepath.Join(dir, "s.sock"), lines: make(chan string, 1000), told: told, exit: make(chan int, 1)}
	d.cmd = program(context.Background(), append([]string{"run", "--config", config, "--socket", d.socket}, args...)...)
	d.cmd.Env = append(d.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(dir, "n"))
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			d.lines <- lines.Text()
		}
		_ = d.cmd.Wait()
		d.exit <- d.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		<-done
	})
	if got := <-told; got != "READY=1" {
		t.Fatalf("first note to the service manager: %q", got)
	}
	return d
}

// notifications receives what is told to a service manager.
func notifications(t *testing.T, path string) <-chan string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	told := make(chan string, 100)
	go func() {
		defer close(told)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	return told
}

// line waits for a line of standard error that matches.
func (d *daemon) line(pattern string) []string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	end := time.After(guard)
	for {
		select {
		case text := <-d.lines:
			if m := re.FindStringSubmatch(text); m != nil {
				return m
			}
		case <-end:
			d.t.Fatalf("no line like %q within %v", pattern, guard)
		}
	}
}

func (d *daemon) ended() int {
	d.t.Helper()
	select {
	case code := <-d.exit:
		return code
	case <-time.After(guard):
		d.t.Fatalf("mdsupervisor did not end within %v", guard)
		return -1
	}
}

func (d *daemon) status() []supervisor.ChildStatus {
	d.t.Helper()
	code, out, errs := call(d.t, "-o", "json", "status", "--socket", d.socket)
	var children []supervisor.ChildStatus
	if err := json.Unmarshal([]byte(out), &children); code != 0 || err != nil {
		d.t.Fatalf("status: exit code %d, %v, stderr %q", code, err, errs)
	}
	return children
}

// started waits until all children are up: they are started one after another.
func (d *daemon) started() []supervisor.ChildStatus {
	d.t.Helper()
	end := time.After(guard)
	for {
		children := d.status()
		if !slices.ContainsFunc(children, func(c supervisor.ChildStatus) bool { return c.State != "up" }) {
			return children
		}
		select {
		case <-end:
			d.t.Fatalf("not all children were up within %v: %v", guard, children)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

const sleepers = `
[[child]]
name = "one"
command = ["sleep", "1000"]

[[child]]
name = "many"
command = ["sleep", "1000"]
numprocs = 2
`

func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || regexp.MustCompile(`\) [ZX] `).Match(text)
}
