package sqlite

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// The tests of this file run the test binary again, as other processes that share
// the file. A role reads its lines from stdin and talks on stdout.
const (
	roleVariable = "MDMESH_TEST_ROLE"
	dirVariable  = "MDMESH_TEST_DIR"
	seedVariable = "MDMESH_TEST_SEED"
)

func runRole() int {
	seed, _ := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	roles := map[string]func(dir string, seed uint64) error{
		"apply": roleApply, "rollup": roleRollup, "open": roleOpen, "full": roleFull,
	}
	if err := roles[os.Getenv(roleVariable)](os.Getenv(dirVariable), seed); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// roleApply applies the batches of its seed and prints a line after each commit.
func roleApply(dir string, seed uint64) error {
	s, err := Open(background(), Config{Dir: dir, LockTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	for i, batch := range processBatches(seed) {
		if _, err := s.Apply(background(), batch); err != nil {
			return err
		}
		fmt.Println("applied", i)
	}
	return s.Close()
}

// roleRollup recomputes until stdin ends.
func roleRollup(dir string, _ uint64) error {
	s, err := Open(background(), Config{Dir: dir, LockTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	for pass := 0; ; pass++ {
		if _, _, err := s.Recompute(background(), 20); err != nil {
			return err
		}
		fmt.Println("pass", pass)
		select {
		case <-end:
			return s.Close()
		default:
		}
	}
}

// roleOpen waits for a line, so that many open at the same moment, and applies one record.
func roleOpen(dir string, seed uint64) error {
	fmt.Println("here")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	s, err := Open(background(), Config{Dir: dir, LockTimeout: 30 * time.Second})
	if err != nil {
		return err
	}
	if _, err := s.Apply(background(), []store.Record{rec("opened", strconv.FormatUint(seed, 10), 0, 1, 0)}); err != nil {
		return err
	}
	return s.Close()
}

// processBatches makes the input of one applying process. The processes overlap:
// they share series and ids, every rev of a row has one content, and so the
// outcome does not depend on who comes first.
func processBatches(seed uint64) [][]store.Record {
	random := rand.New(rand.NewPCG(seed, 1))
	batches := make([][]store.Record, 60)
	for i := range batches {
		for range 40 {
			id, rev := random.IntN(1500), int64(random.IntN(3))
			content := rand.New(rand.NewPCG(uint64(id), uint64(rev)))
			batches[i] = append(batches[i], rec(fmt.Sprintf("series-%d", id%7), strconv.Itoa(id),
				time.Duration(content.IntN(7200_000))*time.Millisecond, content.NormFloat64(), rev))
		}
	}
	return batches
}

// process is a started role.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func start(t *testing.T, role, dir string, seed uint64) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, dirVariable+"="+dir, fmt.Sprintf("%s=%d", seedVariable, seed))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // harmless when it ended
		_, _ = cmd.Process.Wait()
	})
	return &process{cmd, stdin, bufio.NewScanner(stdout)}
}

// read reads n lines.
func (p *process) read(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if !p.lines.Scan() {
			t.Fatalf("%s ended after %d lines: %v", p, i, p.lines.Err())
		}
	}
}

// finish reads to the end, and wants exit code 0.
func (p *process) finish(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close()
	for p.lines.Scan() {
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
}

// kill ends the process as a crash would, and waits until it is gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for p.lines.Scan() {
	}
	_ = p.Wait()
}

// TestProcesses lets four processes apply overlapping records while another rolls
// up. One applier and the roll-up are killed mid-way; the applier's batches are
// all sent again. Rows and windows must be those of a single quiet process.
func TestProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rollup := start(t, "rollup", dir, 0)
	var appliers []*process
	for seed := range uint64(4) {
		appliers = append(appliers, start(t, "apply", dir, seed))
	}
	appliers[0].read(t, 20)
	appliers[0].kill(t)
	rollup.read(t, 5)
	rollup.kill(t)
	rollup = start(t, "rollup", dir, 0)
	appliers[0] = start(t, "apply", dir, 0) // the same batches from the beginning
	for _, p := range appliers {
		p.finish(t)
	}
	rollup.finish(t)

	m := model{}
	for rev := range int64(3) { // in the order of the revs, what came first does not matter
		for seed := range uint64(4) {
			for _, batch := range processBatches(seed) {
				for _, r := range batch {
					if r.Rev == rev {
						m.apply(r)
					}
				}
			}
		}
	}
	s := open(t, dir)
	rollUp(t, s, 100)
	checkRows(t, s, m)
	all := allPoints(t, s, 500)
	checkPoints(t, s, m, all)
	checkReaders(t, s, all)
}

// TestCrashBetweenRowsAndRollup kills the only process after its commits: another
// one finds the marks and computes every window.
func TestCrashBetweenRowsAndRollup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, "apply", dir, 9)
	p.read(t, 3)
	p.kill(t)

	s := open(t, dir)
	if dirtyWindows(t, s) == 0 {
		t.Fatal("no window is marked")
	}
	rollUp(t, s, 50)
	var applied int
	for k := len(processBatches(9)); k >= 0; k-- { // which of its commits were the last is not known
		if m := modelOf(processBatches(9)[:k]); sameRows(s, m) {
			checkPoints(t, s, m, allPoints(t, s, 500))
			applied = k
			break
		}
	}
	if applied < 3 {
		t.Fatalf("rows are those of %d batches, want at least the 3 acknowledged", applied)
	}
}

func modelOf(batches [][]store.Record) model {
	m := model{}
	for _, batch := range batches {
		for _, r := range batch {
			m.apply(r)
		}
	}
	return m
}

// sameRows tells whether checkRows would be content.
func sameRows(s *Store, m model) bool {
	var p probe
	func() {
		defer func() { _ = recover() }()
		checkRows(&p, s, m)
	}()
	return !p.failed
}

type probe struct{ failed bool }

func (*probe) Helper() {}
func (p *probe) Fatalf(string, ...any) {
	p.failed = true
	panic(p)
}

// TestOpenTogether lets processes make one new file at the same moment.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	for range 3 {
		dir := t.TempDir()
		var processes []*process
		for seed := range uint64(6) {
			processes = append(processes, start(t, "open", dir, seed))
		}
		for _, p := range processes {
			p.read(t, 1)
		}
		for _, p := range processes {
			if _, err := io.WriteString(p.stdin, "go\n"); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range processes {
			p.finish(t)
		}
		s := open(t, dir)
		points := rollUp(t, s, 10)
		if len(points) != len(store.Windows) || points[0].Count != 6 {
			t.Fatalf("points %+v, want one of count 6 per window", points)
		}
	}
}
