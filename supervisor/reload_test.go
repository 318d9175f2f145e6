package supervisor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

func running(words ...string) func(*Spec) { return func(s *Spec) { s.Command = words } }
func signalled(name string) func(*Spec)   { return func(s *Spec) { s.StopSignal = name } }

func names(all []ChildStatus) (list []string) {
	for _, c := range all {
		list = append(list, c.Name)
	}
	return list
}

// again reloads a bench with other entries and returns what was touched.
func (b *bench) again(entries ...Spec) []string {
	b.t.Helper()
	touched, err := b.ask(b.t.Context(), command{op: OpReload, fresh: specs(b.t, entries...), launcher: b.host})
	if err != nil {
		b.t.Fatal(err)
	}
	return names(touched)
}

func (b *bench) all() []ChildStatus {
	b.t.Helper()
	synctest.Wait()
	all, err := b.do(b.t.Context(), OpStatus, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

func TestReload(t *testing.T) {
	t.Parallel()
	same := func(list ...string) []string { return list }
	for _, c := range []struct {
		name    string
		before  []Spec
		after   []Spec
		touched []string
		log     []string // what was done to processes
		order   []string // of the children at last
	}{
		{"nothing", []Spec{entry("a"), entry("b")}, []Spec{entry("a"), entry("b")}, nil, nil, same("a", "b")},
		{"another order", []Spec{entry("a"), entry("b")}, []Spec{entry("b"), entry("a")}, nil, nil, same("b", "a")},
		{"a new one", []Spec{entry("a")}, []Spec{entry("b"), entry("a")}, same("b"), same("start b"), same("b", "a")},
		{"one less", []Spec{entry("a"), entry("b")}, []Spec{entry("b")}, same("a"), same("15 a"), same("b")},
		{"fewer of a kind", []Spec{entry("a", procs(3))}, []Spec{entry("a", procs(1))}, same("a:1", "a:2"), same("15 a:2", "15 a:1"), same("a:0")},
		{"more of a kind", []Spec{entry("a", procs(1))}, []Spec{entry("a", procs(2))}, same("a:1"), same("start a:1"), same("a:0", "a:1")},
		{"another command", []Spec{entry("a"), entry("b")}, []Spec{entry("a", running("y")), entry("b")}, same("a"), same("15 a", "start a"), same("a", "b")},
		{"another command and signal", []Spec{entry("a")}, []Spec{entry("a", running("y"), signalled("INT"))}, same("a"), same("15 a", "start a"), same("a")},
		{"another signal", []Spec{entry("a")}, []Spec{entry("a", signalled("INT"))}, nil, nil, same("a")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host := &fakeHost{}
				b := beginBench(t, host, specs(t, c.before...)...)
				synctest.Wait()
				begun := len(host.entries(""))
				if got := b.again(c.after...); !slices.Equal(got, c.touched) {
					t.Errorf("touched %q, want %q", got, c.touched)
				}
				if got := names(b.all()); !slices.Equal(got, c.order) {
					t.Errorf("children %q, want %q", got, c.order)
				}
				if got := host.entries("")[begun:]; !slices.Equal(got, c.log) {
					t.Errorf("did %q, want %q", got, c.log)
				}
				for _, s := range b.all() {
					if s.State != "up" {
						t.Errorf("%s is %s", s.Name, s.State)
					}
				}
			})
		})
	}
}

// TestReloadKeepsWishes: what was stopped by hand stays so; what was given up gets
// another chance if it is another command now, and only then.
func TestReloadKeepsWishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		host.onLaunch = func(p *fakeProcess) {
			if p.name == "bad" && len(host.log) < 10 {
				p.exit <- Exit{Known: true, Code: 78}
			}
		}
		b := beginBench(t, host, specs(t, entry("held"), entry("bad"))...)
		b.want("bad", Fatal)
		if _, err := b.do(t.Context(), OpStop, []string{"held"}); err != nil {
			t.Fatal(err)
		}
		if got := b.again(entry("held", running("y")), entry("bad", failures(3))); len(got) > 0 {
			t.Errorf("touched %q", got)
		}
		b.want("held", Down)
		b.want("bad", Fatal)
		host.mu.Lock()
		host.onLaunch = nil
		host.mu.Unlock()
		if got := b.again(entry("held", running("y")), entry("bad", running("good"))); !slices.Equal(got, []string{"bad"}) {
			t.Errorf("touched %q", got)
		}
		b.want("held", Down)
		b.want("bad", Up)
	})
}

// TestReloadTwice: a child that is taken out while it is slow to end, and put back
// in meanwhile, runs once.
func TestReloadTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(string, syscall.Signal) bool { return false }}
		b := beginBench(t, host, specs(t, entry("a"), entry("b"))...)
		left := make(chan []string, 1)
		go func() { left <- b.again(entry("b")) }()
		synctest.Wait()
		b.want("a", Stopping)
		back := make(chan []string, 1)
		go func() { back <- b.again(entry("a"), entry("b")) }()
		synctest.Wait()
		host.end("a", Exit{Known: true})
		if got := <-back; !slices.Equal(got, []string{"a"}) {
			t.Errorf("touched %q", got)
		}
		<-left
		b.want("a", Up)
		if n := len(host.entries("start a")); n != 2 {
			t.Errorf("started %d times", n)
		}
		host.mu.Lock()
		host.obeys = nil
		host.mu.Unlock()
	})
}

func TestReloadWhileClosing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(_ string, s syscall.Signal) bool { return s == syscall.SIGKILL }}
		b := beginBench(t, host, specs(t, entry("a"))...)
		go b.do(t.Context(), OpShutdown, nil)
		synctest.Wait()
		if _, err := b.ask(t.Context(), command{op: OpReload, fresh: specs(t, entry("a"), entry("b")), launcher: host}); !errors.Is(err, ErrClosing) {
			t.Errorf("reload: %v", err)
		}
	})
}

// TestFinishedAndGivenUpStaySo: a new supervisor after a crash begins nothing anew
// that was over, until someone says so, or the file says something else of it.
func TestFinishedAndGivenUpStaySo(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("done", `restart = "transient"`, "exit", "0"), roleEntry("bad", "", "exit", "78"),
		roleEntry("once", `restart = "temporary"`, "exit", "3"), roleEntry("changed", "", "exit", "64"), roleEntry("on", "", "wait"))
	first := s.spawn()
	on := s.untilState("on", Up)
	for name, state := range map[string]State{"done": Down, "bad": Fatal, "once": Down, "changed": Fatal} {
		s.untilState(name, state)
	}
	before := s.begun()
	crash(t, first)
	s.write(roleEntry("done", `restart = "transient"`, "exit", "0"), roleEntry("bad", "", "exit", "78"),
		roleEntry("once", `restart = "temporary"`, "exit", "3"), roleEntry("changed", "", "wait"), roleEntry("on", "", "wait"))
	started := func() int {
		text, _ := os.ReadFile(s.socket + stateSuffix)
		return strings.Count(string(text), `"state":"up"`)
	}
	s.run()
	s.untilState("changed", Up)
	after := s.ask(OpStatus)
	for i, c := range after {
		if c.Name != "changed" && c != before[i] {
			t.Errorf("%+v, was %+v", c, before[i])
		}
	}
	if now := s.untilState("on", Up); now.PID != on.PID {
		t.Errorf("on is %+v, was %+v", now, on)
	}
	if n := started(); n != 2 {
		t.Errorf("%d children up in the notes, want changed and on", n)
	}
	// By hand they start.
	if _, err := Do(t.Context(), s.socket, OpStart, "bad"); !errors.Is(err, ErrNotStarted) && err != nil {
		t.Error(err)
	}
	s.until("bad", "was started", func(c ChildStatus) bool { return c.State == "fatal" && c.Since.After(before[1].Since) })
}

// TestTemporaryDiedUnseen: a child that is never started again is not, because it
// ended while nobody looked.
func TestTemporaryDiedUnseen(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("once", `restart = "temporary"`, "wait"), roleEntry("on", "", "wait"))
	first := s.spawn()
	once, _ := s.untilState("once", Up), s.untilState("on", Up)
	crash(t, first)
	if err := syscall.Kill(once.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	untilDead(t, once.PID)
	s.run()
	s.untilState("on", Up)
	if c := s.ask(OpStatus, "once")[0]; c.State != "down" || c.PID != 0 {
		t.Errorf("once is %+v", c)
	}
}

func TestReloadReadsTheFile(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"), roleEntry("b", "", "wait"))
	s.run()
	b := s.untilState("b", Up)
	s.write(roleEntry("b", "", "wait"), roleEntry("c", "", "wait"))
	if got := names(s.ask(OpReload)); !slices.Equal(got, []string{"c", "a"}) {
		t.Errorf("touched %q", got)
	}
	if got := s.ask(OpStatus); len(got) != 2 || got[0] != b || got[1].State != "up" {
		t.Errorf("children %+v", got)
	}
	s.write("nonsense")
	if _, err := Do(t.Context(), s.socket, OpReload); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "mesh.toml:1:") {
		t.Errorf("bad file: %v", err)
	}
	if _, err := Do(t.Context(), s.socket, OpReload, "b"); !errors.Is(err, ErrRequest) {
		t.Errorf("with a name: %v", err)
	}
	if got := s.ask(OpStatus, "b")[0]; got != b {
		t.Errorf("b is %+v, was %+v", got, b)
	}
}

// TestReloadAppliesLater: what needs no other process counts from the next time on.
func TestReloadAppliesLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("a"))...)
		b.again(entry("a", signalled("INT")))
		if _, err := b.do(t.Context(), OpStop, []string{"a"}); err != nil {
			t.Fatal(err)
		}
		if got := host.entries("2 a"); len(got) != 1 {
			t.Errorf("stopped by %q, want SIGINT", host.entries(""))
		}
	})
}

// TestReloadBeforeTheStart: a child that waits for its turn and is taken out of the
// file never starts.
func TestReloadBeforeTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("slow", notifying), entry("next"))...)
		b.want("slow", Starting)
		b.again(entry("slow", notifying))
		b.served <- host.running["slow"].pid
		b.want("slow", Ready)
		if got := host.entries("start next"); len(got) > 0 {
			t.Errorf("started all the same: %q", got)
		}
	})
}
