package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestKilledChildHeals(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "numprocs = 3", "wait"))
	stop := s.run()
	before := s.begun()
	victim := before[1].PID
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	healed := s.until("a:1", "runs again", func(c ChildStatus) bool { return c.State == "up" && c.PID != victim })
	if healed.Restarts != 1 || !alive(healed.PID) {
		t.Errorf("healed: %+v", healed)
	}
	after := s.ask(OpStatus)
	if after[0] != before[0] || after[2] != before[2] {
		t.Errorf("the others changed: %+v, before %+v", after, before)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, c := range after {
		if alive(c.PID) {
			t.Errorf("%s (pid %d) runs after the end", c.Name, c.PID)
		}
	}
	if _, err := os.Stat(s.socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := os.Stat(s.socket + stateSuffix); !os.IsNotExist(err) {
		t.Errorf("the state is still there: %v", err)
	}
}

func TestCrashLoopLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("good", "", "wait"), roleEntry("bad", "max_failures = 3", "exit", "1"), roleEntry("wrong", "", "exit", "78"))
	s.run()
	good := s.untilState("good", Up)
	bad := s.untilState("bad", Fatal)
	if bad.Restarts != 2 || bad.PID != 0 {
		t.Errorf("bad: %+v", bad)
	}
	if wrong := s.untilState("wrong", Fatal); wrong.Restarts != 0 {
		t.Errorf("a child that exits with 78 was tried again: %+v", wrong)
	}
	if now := s.ask(OpStatus, "good")[0]; now != good {
		t.Errorf("good changed: %+v, was %+v", now, good)
	}
}

func TestGrandchildrenEndWithTheirGroup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, grandchild string
		timeout          string
		end              func(s *site, pid int)
	}{
		{"crash", "stubborn", "1h", func(s *site, pid int) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				s.t.Fatal(err)
			}
		}},
		{"stop, it needs time", "slow", "1h", func(s *site, _ int) { s.ask(OpStop, "a") }},
		{"stop, it does not obey", "stubborn", "200ms", func(s *site, _ int) { s.ask(OpStop, "a") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			file := filepath.Join(s.dir, "grandchild")
			s.write(roleEntry("a", fmt.Sprintf("stop_timeout = %q", c.timeout), "family", file, c.grandchild))
			s.run()
			parent := s.untilState("a", Up)
			grandchild := pidIn(t, file)
			s.untilOutput("a", fmt.Sprint("up ", grandchild))
			c.end(s, parent.PID)
			untilDead(t, grandchild)
			if said := strings.Contains(s.output("a"), fmt.Sprint("end ", grandchild)); said != (c.grandchild == "slow") {
				t.Errorf("it had its time to end: %v; output %q", said, s.output("a"))
			}
		})
	}
}

func TestStubbornChildIsKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", `stop_timeout = "100ms"`, "stubborn"))
	s.run()
	up := s.untilState("a", Up)
	s.untilOutput("a", "up")
	if down := s.ask(OpStop, "a")[0]; down.State != "down" || down.PID != 0 {
		t.Errorf("after stop: %+v", down)
	}
	untilDead(t, up.PID)
}

func TestPausedChildStops(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", `stop_timeout = "1h"`, "wait"))
	s.run()
	s.untilOutput("a", "up")
	pid := s.untilState("a", Up).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.ask(OpStop, "a") // a stopped process would keep its SIGTERM pending for an hour
	if !strings.Contains(s.output("a"), "end") {
		t.Errorf("output %q", s.output("a"))
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := filepath.Join(s.dir, "go")
	s.write(roleEntry("a", "ready = \"notify\"\nstart_timeout = \"1h\"", "ready", file), roleEntry("b", "", "wait"))
	s.run()
	s.untilState("a", Starting)
	if b := s.ask(OpStatus, "b")[0]; b.State != "down" {
		t.Errorf("b did not wait for its turn: %+v", b)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.untilState("a", Ready)
	s.untilState("b", Up)
}

func TestEnvironmentAndFolder(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/the/supervisors/own")
	t.Setenv("MD_SUPERVISED", "outer/1")
	s := newSite(t, roleEntry("a", "directory = \"sub\"\nenvironment = { GREETING = \"hello world\" }", "environment"))
	if err := os.Mkdir(filepath.Join(s.dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.untilOutput("a", "directory")
	out := s.output("a")
	for _, want := range []string{"GREETING=hello world\n", "MD_SUPERVISED=a/", "directory " + filepath.Join(s.dir, "sub")} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	for _, unwanted := range []string{"NOTIFY_SOCKET=", "outer/1"} {
		if strings.Contains(out, unwanted) {
			t.Errorf("output has %q", unwanted)
		}
	}
}

func TestOutputIsAppended(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"))
	s.run()
	s.untilOutput("a", "up")
	s.ask(OpRestart, "a")
	eventually(t, "two starts in the log", func() bool { return strings.Count(s.output("a"), "up ") == 2 })
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, "[[child]]\nname = \"a\"\ncommand = [\"no-such-program-anywhere\"]\nmax_failures = 1\n", roleEntry("b", "", "wait"))
	file, err := Load(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.CheckCommands(); err == nil || !strings.Contains(err.Error(), "child a: no-such-program-anywhere: found neither") {
		t.Errorf("CheckCommands: %v", err)
	}
	s.run()
	s.untilState("a", Fatal)
	s.untilState("b", Up)
}

func TestStopAllWithinBound(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("good", "", "wait"), roleEntry("hung", "numprocs = 2", "stubborn"))
	stop := s.run(func(c *Config) { c.StopTimeout = 300 * time.Millisecond })
	s.untilOutput("good", "up")
	s.untilOutput("hung:1", "up")
	all := s.begun()
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, c := range all {
		untilDead(t, c.PID)
	}
	if !strings.Contains(s.output("good"), "end") {
		t.Error("the child that obeys had no time to end")
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	self, err := readStat(os.Getpid())
	if err != nil || self.pid != os.Getpid() || self.dead() || self.start == 0 || self.group != syscall.Getpgrp() {
		t.Errorf("own stat %+v, %v", self, err)
	}
	const tail = " S 1 42 43 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2"
	got, err := parseStat("41 (a) b (c) Z) (" + ")" + tail)
	if want := (procStat{pid: 41, state: 'S', group: 42, session: 43, start: 987654}); err != nil || got != want {
		t.Errorf("parseStat = %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "41", "41 (x)", "41 (x) S 1 2", "x (y)" + tail, "41 (x" + tail} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q) gave no error", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("41 (sleep) S 1 41 41 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2")
	f.Fuzz(func(t *testing.T, line string) { _, _ = parseStat(line) })
}
