package meshproc

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func shell(t testing.TB, script string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = Environment(t)
	return cmd
}

// TestNothingIsLeft: a grandchild in a session of its own, whose parents were
// killed, ends with the test.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("started", func(t *testing.T) {
		p := Start(t, shell(t, `setsid sh -c 'echo pid=$$; exec sleep 1000' & wait`))
		pid, _ = strconv.Atoi(p.Line(t, "pid="))
		p.Kill(t)
		if code := p.Wait(t); code != -1 {
			t.Errorf("exit code %d", code)
		}
		if !Alive(pid) || len(Marked(t)) != 1 {
			t.Fatalf("%d alive: %v, of %v", pid, Alive(pid), Marked(t))
		}
	})
	Eventually(t, "the grandchild is gone", func() error {
		if Alive(pid) {
			return errors.New("alive")
		}
		return nil
	})
}

func TestOutput(t *testing.T) {
	t.Parallel()
	p := Start(t, shell(t, `echo listening role=here endpoint=tcp://127.0.0.1:1; seq 10000 >&2; echo the last; exit 7`))
	if got := p.Endpoint(t, "here"); got != "tcp://127.0.0.1:1" {
		t.Errorf("endpoint %q", got)
	}
	if code := p.Wait(t); code != 7 {
		t.Errorf("exit code %d", code)
	}
	text := p.Output()
	if lines := strings.Count(text, "\n"); lines > 2*keptLines+1 || !strings.Contains(text, "\n[...]\n") || !strings.HasSuffix(text, "\n10000\nthe last") {
		t.Errorf("%d lines: %s", lines, text)
	}
	if r := Run(t, shell(t, "echo out; echo err >&2; exit 3")); r != (Result{3, "out\n", "err\n"}) {
		t.Errorf("%+v", r)
	}
}

func TestSignalsReachTheGroup(t *testing.T) {
	t.Parallel()
	p := Start(t, shell(t, `trap 'echo outer; exit 0' INT; sh -c 'trap "echo inner; exit 0" INT; echo up; while :; do sleep 0.01; done' ; :`))
	p.Line(t, "up")
	p.SignalGroup(t, syscall.SIGINT)
	p.Line(t, "inner")
	p.Line(t, "outer")
	if code := p.Wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.SignalGroup(t, syscall.SIGINT) // nobody is there any more
}

func TestPortsAreFree(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	for range 50 {
		base := FreePorts(t, 10)
		for port := base; port < base+10; port++ {
			if seen[port] {
				t.Fatalf("port %d is given twice", port)
			}
			seen[port] = true
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+9))
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
