package procs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain also is the process that the tests start: it burns CPU until its standard
// input ends, and answers lines.
func TestMain(m *testing.M) {
	if os.Getenv("PROCS_CHILD") != "" {
		child()
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "role" {
		Main("procs", nil, nil)
		return
	}
	goleak.VerifyTestMain(m)
}

func child() {
	fmt.Println("ready here")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
			_ = began
		}
		fmt.Println("done", in.Text())
	}
}

func start(t *testing.T, g *Group) *Proc {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROCS_CHILD=1")
	p, err := g.Start("child", cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var g Group
	defer g.Stop()
	p := start(t, &g)
	if rest, err := p.Line(ctx, "ready "); err != nil || rest != "here" {
		t.Fatalf("Line = %q, %v", rest, err)
	}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Tell("one"); err != nil {
		t.Fatal(err)
	}
	if rest, err := p.Line(ctx, "done "); err != nil || rest != "one" {
		t.Fatalf("Line = %q, %v", rest, err)
	}
	after, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("CPU %v after burning some, %v before", after, before)
	}
	m, err := p.Memory()
	if err != nil || m.Resident <= 0 || m.Anonymous <= 0 || m.Anonymous > m.Resident || m.Peak < m.Resident {
		t.Errorf("Memory = %+v, %v", m, err)
	}
	g.Stop()
	if _, err := p.Line(ctx, "more"); err == nil || !strings.Contains(err.Error(), "done one") {
		t.Errorf("Line of an ended process: %v, want its last words", err)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	const line = "7 (a ) name) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 5 6 7"
	if d, err := parseStat(line); err != nil || d != 420*time.Millisecond {
		t.Errorf("parseStat = %v, %v, want 420ms", d, err)
	}
	for _, bad := range []string{"", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4194560 1 0 0 0 a b 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q) takes it", bad)
		}
	}
}
