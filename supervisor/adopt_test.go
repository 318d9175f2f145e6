package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crash ends a supervisor process as a crash would.
func crash(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// marked counts the live processes that carry a mark of these children.
func marked(children ...string) (n int) {
	for _, p := range processes(func(s procStat) bool { return s.session == s.pid }) {
		mark, _ := markOf(p.pid)
		for _, c := range children {
			if strings.HasPrefix(mark, c+"/") {
				n++
			}
		}
	}
	return n
}

func TestKilledSupervisorIsReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("adopt-a", "numprocs = 3", "wait"), roleEntry("adopt-b", "", "wait"), roleEntry("adopt-c", "", "wait"))
	first := s.spawn()
	s.untilState("adopt-c", Up)
	victim := s.ask(OpStatus, "adopt-a:0")[0].PID
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("adopt-a:0", "runs again", func(c ChildStatus) bool { return c.State == "up" && c.PID != victim })
	s.ask(OpStop, "adopt-c")
	before := s.ask(OpStatus)
	crash(t, first)
	for _, c := range before {
		if c.PID > 0 && !alive(c.PID) {
			t.Fatalf("%s died with the supervisor", c.Name)
		}
	}
	if _, err := Do(t.Context(), s.socket, OpStatus); !errors.Is(err, ErrNotRunning) {
		t.Errorf("status without a supervisor: %v", err)
	}

	stop := s.run()
	after := s.ask(OpStatus)
	for i := range before {
		if before[i].Name != after[i].Name || before[i].PID != after[i].PID || before[i].State != after[i].State || before[i].Restarts != after[i].Restarts {
			t.Errorf("taken over as %+v, was %+v", after[i], before[i])
		}
	}
	if n := marked("adopt-a:0", "adopt-a:1", "adopt-a:2", "adopt-b", "adopt-c"); n != 4 {
		t.Errorf("%d processes run, want 4", n)
	}

	// A child taken over is watched, healed and stopped like any other.
	if err := syscall.Kill(after[3].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("adopt-b", "runs again", func(c ChildStatus) bool { return c.State == "up" && c.PID != after[3].PID && c.Restarts == 1 })
	s.ask(OpRestart, "adopt-a:1")
	untilDead(t, after[1].PID)
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, c := range after {
		if c.PID > 0 {
			untilDead(t, c.PID)
		}
	}
}

func TestChildThatDiedMeanwhileIsStarted(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"), roleEntry("b", "", "wait"))
	first := s.spawn()
	before := []ChildStatus{s.untilState("a", Up), s.untilState("b", Up)}
	crash(t, first)
	if err := syscall.Kill(before[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	untilDead(t, before[0].PID)
	s.run()
	a, b := s.untilState("a", Up), s.untilState("b", Up)
	if a.PID == before[0].PID || b.PID != before[1].PID {
		t.Errorf("a %+v, b %+v; before %+v", a, b, before)
	}
}

// TestWhatWasStoppedStaysSo over a planned restart, and over one with another file;
// what ended otherwise begins anew. Once all are started nothing is kept.
func TestWhatWasStoppedStaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"), roleEntry("b", "", "wait"), roleEntry("job", "restart = \"temporary\"", "exit", "0"))
	end := s.run()
	s.until("job", "is finished", func(c ChildStatus) bool { return c.State == "down" && c.Reason == "exited with 0" })
	before := s.ask(OpStop, "a")[0]
	if err := end(); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"", "stop_timeout = \"1s\""} {
		s.write(roleEntry("a", more, "wait"), roleEntry("b", "", "wait"), roleEntry("job", "restart = \"temporary\"", "wait"))
		end = s.run()
		s.untilState("b", Up)
		s.untilState("job", Up)
		if now := s.ask(OpStatus, "a")[0]; now != before || now.Reason != "stopped" {
			t.Errorf("a is %+v, was %+v", now, before)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	end = s.run()
	s.ask(OpStart, "a")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.socket + stateSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state file: %v", err)
	}
}

func TestChildNoLongerInTheFileIsStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "numprocs = 3", "wait"))
	first := s.spawn()
	s.untilState("a:2", Up)
	before := s.begun()
	crash(t, first)
	s.write(roleEntry("a", "numprocs = 1", "wait"))
	s.run()
	untilDead(t, before[1].PID)
	untilDead(t, before[2].PID)
	eventually(t, "one child is left", func() bool { return len(s.ask(OpStatus)) == 1 })
	if now := s.ask(OpStatus)[0]; now.PID != before[0].PID {
		t.Errorf("a:0 is %+v, was %+v", now, before[0])
	}
}

// TestIntentIsFollowed is a supervisor that died between the start of a child
// and the note of its PID.
func TestIntentIsFollowed(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"))
	first := s.spawn()
	before := s.untilState("a", Up)
	crash(t, first)
	left, err := readNotes(s.socket + stateSuffix)
	if err != nil || len(left) != 1 {
		t.Fatalf("notes %+v, %v", left, err)
	}
	left[0].PID, left[0].Start, left[0].State = 0, 0, "starting"
	if err := writeNotes(s.socket+stateSuffix, left); err != nil {
		t.Fatal(err)
	}
	s.run()
	if now := s.untilState("a", Up); now.PID != before.PID {
		t.Errorf("a twin was started: %+v beside %+v", now, before)
	}
}

func TestSurvivorMustMatch(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "role", "stubborn")
	cmd.Env = append(os.Environ(), envMark+"=x/1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	stat, err := readStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its environment can be read", func() bool { _, ok := markOf(stat.pid); return ok })
	right := note{Name: "x", State: "up", PID: stat.pid, Start: stat.start, Mark: "x/1"}
	for _, c := range []struct {
		name   string
		change func(*note)
		want   bool
	}{
		{"all match", func(*note) {}, true},
		{"another start time", func(n *note) { n.Start++ }, false},
		{"another mark", func(n *note) { n.Mark = "x/2" }, false},
		{"no such process", func(n *note) { n.PID = 1 << 30 }, false},
		{"intent", func(n *note) { n.PID, n.State = 0, "starting" }, true},
		{"intent of another", func(n *note) { n.PID, n.State, n.Mark = 0, "starting", "x/3" }, false},
		{"intent without a mark", func(n *note) { n.PID, n.State, n.Mark = 0, "starting", "" }, false},
		{"not running", func(n *note) { n.PID, n.State = 0, "down" }, false},
	} {
		n := right
		c.change(&n)
		if _, got := survivor(n); got != c.want {
			t.Errorf("%s: survivor = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNotesOfAnotherBoot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	if got, err := readNotes(path); got != nil || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
	text, err := json.Marshal(notes{Version: notesVersion, Boot: "long ago", Children: []note{{Name: "a", PID: os.Getpid()}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		bad  bool
	}{{string(text), false}, {"", true}, {"{", true}, {`{"version": 2}`, true}} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readNotes(path); len(got) > 0 || (err != nil) != c.bad {
			t.Errorf("%q: notes %v, error %v", c.text, got, err)
		}
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"))
	s.run()
	before := s.untilState("a", Up)
	file, err := Load(s.file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(Config{File: file, Socket: s.socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	if err := second.Run(ctx); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "pid ") {
		t.Errorf("second supervisor: %v", err)
	}
	if after := s.untilState("a", Up); after != before {
		t.Errorf("child changed: %+v, was %+v", after, before)
	}
}

// TestLockOutlivesItsDeadHolder: a lock whose writer is dead but that someone
// still holds (a start cut short) is waited for.
func TestLockOutlivesItsDeadHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	dead := exec.Command(os.Args[0], "role", "exit", "0")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(time.Now().Format("")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(path); !errors.Is(err, ErrRunning) {
		t.Errorf("lock of an unknown holder: %v", err)
	}
	if err := os.WriteFile(path, []byte(itoa(dead.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { held.Close() })
	lock, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if got := lockHolder(path); got != os.Getpid() {
		t.Errorf("holder %d, want %d", got, os.Getpid())
	}
}
