package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/internal/logging"
)

func TestCrashLoopGoesFatal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{onLaunch: func(p *fakeProcess) {
			if p.name == "bad" {
				p.exit <- Exit{Known: true, Code: 1}
			}
		}}
		b := beginBench(t, host, specs(t, entry("bad"), entry("good"))...)
		b.want("bad", Backoff)
		pass(time.Hour)
		b.want("bad", Fatal)
		if good := b.state("good"); good.State != "up" || good.Restarts != 0 || good.PID != 2 {
			t.Errorf("the other child was touched: %+v", good)
		}
		if n := len(host.entries("start bad")); n != defaultMaxFailures {
			t.Errorf("started %d times, want %d", n, defaultMaxFailures)
		}
		if got := b.state("bad").Restarts; got != defaultMaxFailures-1 {
			t.Errorf("restarts %d, want %d", got, defaultMaxFailures-1)
		}
		var waits []time.Duration
		last := time.Time{}
		for i, line := range host.log {
			if strings.HasPrefix(line, "start bad") {
				if !last.IsZero() {
					waits = append(waits, host.times[i].Sub(last))
				}
				last = host.times[i]
			}
		}
		for i, w := range waits {
			if want := min(30*time.Second, 100*time.Millisecond<<i); w != want {
				t.Errorf("wait %d was %v, want %v", i+1, w, want)
			}
		}
		// Someone who starts it by hand gives it all its tries again.
		if _, err := b.do(t.Context(), OpStart, []string{"bad"}); !errors.Is(err, ErrNotStarted) && err != nil {
			t.Errorf("start of a crashing child: %v", err)
		}
		pass(time.Hour)
		if n := len(host.entries("start bad")); n != 2*defaultMaxFailures {
			t.Errorf("started %d times after a start by hand, want %d", n, 2*defaultMaxFailures)
		}
	})
}

func TestNeverGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{onLaunch: func(p *fakeProcess) { p.exit <- Exit{Known: true, Code: 1} }}
		b := beginBench(t, host, specs(t, entry("a", failures(0)))...)
		pass(time.Hour)
		if s := b.state("a"); s.State == "fatal" || s.Restarts < 100 {
			t.Errorf("after an hour: %+v", s)
		}
	})
}

func TestLongRunsForgiveFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("a"))...)
		for i := range 50 {
			b.want("a", Up)
			pass(defaultMinUptime)
			host.end("a", Exit{Known: true, Code: -1, Signal: syscall.SIGKILL})
			b.want("a", Backoff)
			pass(backoffBase) // the shortest wait is enough each time
			if got := b.state("a").Restarts; got != i+1 {
				t.Fatalf("restarts %d, want %d", got, i+1)
			}
		}
	})
}

func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	clean, failed := Exit{Known: true}, Exit{Known: true, Code: 1}
	killed := Exit{Known: true, Code: -1, Signal: syscall.SIGSEGV}
	for _, c := range []struct {
		policy Restart
		exit   Exit
		want   State
	}{
		{"", failed, Backoff},
		{Permanent, clean, Backoff},
		{Permanent, failed, Backoff},
		{Permanent, killed, Backoff},
		{Permanent, Exit{Known: true, Code: 78}, Fatal},
		{Permanent, Exit{Known: true, Code: 64}, Fatal},
		{Permanent, Exit{Known: true, Code: 77}, Fatal},
		{Transient, clean, Down},
		{Transient, failed, Backoff},
		{Transient, killed, Backoff},
		{Transient, Exit{}, Backoff}, // not known: taken over
		{Transient, Exit{Known: true, Code: 78}, Fatal},
		{Temporary, clean, Down},
		{Temporary, failed, Down},
		{Temporary, killed, Down},
	} {
		t.Run(fmt.Sprintf("%s %v", c.policy, c.exit), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				host := &fakeHost{}
				b := beginBench(t, host, specs(t, entry("a", policy(c.policy)))...)
				host.end("a", c.exit)
				b.want("a", c.want)
			})
		})
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{refuse: errors.New("no such program")}
		b := beginBench(t, host, specs(t, entry("a", failures(3)))...)
		pass(time.Minute)
		b.want("a", Fatal)
		_, err := b.do(t.Context(), OpStart, []string{"a"})
		if !errors.Is(err, ErrNotStarted) || !strings.Contains(err.Error(), "a is backoff: no such program") {
			t.Errorf("start: %v", err)
		}
	})
}

func TestStartOrderWaitsForReadiness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("first"), entry("broker", notifying), entry("worker", procs(2)))...)
		b.want("first", Up)
		b.want("broker", Starting)
		b.want("worker:0", Down)
		b.served <- b.state("first").PID // does not notify: means nothing
		b.served <- 4711                 // nobody we know
		b.want("broker", Starting)
		b.served <- b.state("broker").PID
		b.want("broker", Ready)
		b.want("worker:1", Up)
		if got := host.entries("start"); !slices.Equal(got, []string{"start first", "start broker", "start worker:0", "start worker:1"}) {
			t.Errorf("started %q", got)
		}
	})
}

func TestFailedStartDoesNotHoldOthersBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("broker", notifying, failures(2)), entry("worker"))...)
		pass(defaultStartTimeout - time.Nanosecond)
		b.want("broker", Starting)
		b.want("worker", Down)
		pass(time.Nanosecond) // the start timed out: killed, counted as a quick failure
		b.want("broker", Backoff)
		b.want("worker", Up)
		pass(2 * defaultStartTimeout)
		b.want("broker", Fatal)
	})
}

func TestStopTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(_ string, s syscall.Signal) bool { return s == syscall.SIGKILL }}
		b := beginBench(t, host, specs(t, entry("a", func(s *Spec) { s.StopSignal = "INT" }))...)
		began := time.Now()
		stopped, err := b.do(t.Context(), OpStop, []string{"a"})
		if err != nil || stopped[0].State != "down" || stopped[0].PID != 0 {
			t.Fatalf("stop: %+v, %v", stopped, err)
		}
		if took := time.Since(began); took != defaultStopTimeout {
			t.Errorf("took %v, want %v", took, defaultStopTimeout)
		}
		if got := host.entries(""); !slices.Equal(got, []string{"start a", "2 a", "9 a"}) {
			t.Errorf("host saw %q", got)
		}
		pass(time.Hour)
		b.want("a", Down)
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("a"), entry("b", notifying))...)
		b.served <- b.state("b").PID
		b.want("b", Ready)
		old := b.state("a").PID
		restarted, err := b.do(t.Context(), OpRestart, []string{"a"})
		if err != nil || restarted[0].State != "up" || restarted[0].PID == old || restarted[0].Restarts != 0 {
			t.Errorf("restart: %+v, %v", restarted, err)
		}
		// The answer waits for readiness.
		answered := make(chan error, 1)
		go func() {
			_, err := b.do(t.Context(), OpRestart, []string{"b"})
			answered <- err
		}()
		b.want("b", Starting)
		select {
		case err := <-answered:
			t.Fatalf("answered before b was ready: %v", err)
		default:
		}
		b.served <- b.state("b").PID
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})
}

func TestStopWhileStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(_ string, s syscall.Signal) bool { return s == syscall.SIGKILL }}
		b := beginBench(t, host, specs(t, entry("a"))...)
		results := make(chan []ChildStatus, 2)
		ask := func(op Op) {
			got, _ := b.do(t.Context(), op, []string{"a"})
			results <- got
		}
		go ask(OpRestart)
		b.want("a", Stopping)
		go ask(OpStop) // the later wish counts
		first, second := <-results, <-results
		if first[0].State != "down" || second[0].State != "down" {
			t.Errorf("answers %+v, %+v", first, second)
		}
		if n := len(host.entries("start")); n != 1 {
			t.Errorf("started %d times", n)
		}
	})
}

func TestIntentIsSavedBeforeTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var saved []note
		var intent note
		host := &fakeHost{}
		e := newEngine(specs(t, entry("a")), host, logging.Test(t))
		e.save = func(n []note) { saved = n }
		host.onLaunch = func(*fakeProcess) { intent = saved[0] }
		e.spawn(e.children[0])
		if intent.State != "starting" || intent.PID != 0 || !strings.HasPrefix(intent.Mark, "a/") {
			t.Errorf("note before the start: %+v", intent)
		}
		if saved[0].PID != 1 || saved[0].Mark != intent.Mark {
			t.Errorf("note after the start: %+v", saved[0])
		}
		e.letGo()
	})
}

func TestHeldStaysDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		children := specs(t, entry("a"), entry("b"))
		children[0].held = true // as the notes of an earlier supervisor said
		b := beginBench(t, host, children...)
		b.want("a", Down)
		b.want("b", Up)
		if _, err := b.do(t.Context(), OpStart, []string{"a"}); err != nil {
			t.Fatal(err)
		}
		b.want("a", Up)
	})
}

func TestChoose(t *testing.T) {
	t.Parallel()
	children := specs(t, entry("broker"), entry("echo", procs(3)), entry("page", group("front")), entry("push", group("front")))
	for _, c := range []struct {
		names, want string // want "!": an error that ends so
	}{
		{"", "broker echo:0 echo:1 echo:2 page push"},
		{"all", "broker echo:0 echo:1 echo:2 page push"},
		{"echo:1", "echo:1"},
		{"echo:*", "echo:0 echo:1 echo:2"},
		{"push echo:1 broker echo:1", "broker echo:1 push"},
		{"front:*", "page push"},
		{"broker:*", "broker"},
		{"echo", `!unknown child "echo"; there are broker, echo:* (3), front:* (2), all`},
		{"echo:7", `!unknown child "echo:7"; there are broker, echo:* (3), front:* (2), all`},
		{"none:*", `!unknown child "none:*"; there are broker, echo:* (3), front:* (2), all`},
	} {
		chosen, err := choose(children, strings.Fields(c.names))
		var got []string
		for _, c := range chosen {
			got = append(got, c.name)
		}
		result := strings.Join(got, " ")
		if err != nil {
			result = "!" + err.Error()
			if !errors.Is(err, ErrUnknownChild) {
				t.Errorf("%v is not ErrUnknownChild", err)
			}
		}
		if result != c.want {
			t.Errorf("choose(%q) = %q, want %q", c.names, result, c.want)
		}
	}
}

// TestOneStartATurn: a long queue keeps nothing else waiting.
func TestOneStartATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		e := newEngine(specs(t, entry("a", procs(200))), host, logging.Test(t))
		turns := 0
		e.turn = func() {
			if turns++; len(host.entries("start")) > turns {
				t.Errorf("%d starts after %d turns", len(host.entries("start")), turns)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.run(ctx) }()
		synctest.Wait()
		if n := len(host.entries("start")); n != 200 {
			t.Errorf("%d children were started, want all 200", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
