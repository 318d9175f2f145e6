package supervisor

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestEveryPair walks all states and events and looks where each leads.
func TestEveryPair(t *testing.T) {
	t.Parallel()
	const no = states // cannot come: nothing changes, and it is logged
	want := [states][events]State{
		//         start     stop      restart   spawned unspawned served    exited   timeout
		Down:     {Up, Down, Up, no, no, Down, no, Down},
		Starting: {Starting, Stopping, Stopping, Up, Backoff, Ready, Backoff, Stopping},
		Up:       {Up, Stopping, Stopping, no, no, Ready, Backoff, Up},
		Ready:    {Ready, Stopping, Stopping, no, no, Ready, Backoff, Ready},
		Stopping: {Stopping, Stopping, Stopping, no, no, Stopping, Down, Stopping},
		Backoff:  {Up, Down, Up, no, no, Backoff, no, Up},
		Fatal:    {Up, Down, Up, no, no, Fatal, no, Fatal},
	}
	for s := range states {
		for ev := range events {
			t.Run(s.String()+" "+ev.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { walkPair(t, s, ev, want[s][ev], no) })
			})
		}
	}
}

func walkPair(t *testing.T, s State, ev event, want, no State) {
	host := &fakeHost{obeys: func(string, syscall.Signal) bool { return false }}
	var log strings.Builder
	e := newEngine(specs(t, entry("a")), host, hclog.New(&hclog.LoggerOptions{Output: &log}))
	c := e.children[0]
	if s == Starting || s == Up || s == Ready || s == Stopping {
		p, err := host.launch(c)
		if err != nil {
			t.Fatal(err)
		}
		c.process, c.started = p, time.Now()
	}
	c.state = s
	e.handle(c, news{event: ev, exit: Exit{Known: true, Code: 1}, err: errors.New("no such file")})

	impossible := strings.Contains(log.String(), "cannot come")
	if want == no {
		if c.state != s || !impossible {
			t.Errorf("impossible event: state %s, log %q", c.state, log.String())
		}
	} else if c.state != want || impossible {
		t.Errorf("state %s, want %s; log %q", c.state, want, log.String())
	}
	if runs := c.state != Down && c.state != Backoff && c.state != Fatal; s != Starting && want != no && runs != (c.process != nil) {
		t.Errorf("in state %s the process is %v", c.state, c.process)
	}
	e.letGo()
}

func TestStateNames(t *testing.T) {
	t.Parallel()
	want := []string{"down", "starting", "up", "ready", "stopping", "backoff", "fatal"}
	for s := range states {
		if s.String() != want[s] {
			t.Errorf("state %d is named %q", s, s)
		}
	}
}

func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 3: 400 * time.Millisecond,
		8: 12800 * time.Millisecond, 9: 25600 * time.Millisecond, 10: 30 * time.Second, 1000: 30 * time.Second,
	} {
		if got := backoff(failures, most); got != want {
			t.Errorf("backoff after %d failures at most %v, want %v", failures, got, want)
		}
		for range 100 {
			if got := backoff(failures, fullJitter); got < 0 || got > want {
				t.Fatalf("backoff after %d failures is %v, want 0 to %v", failures, got, want)
			}
		}
	}
}
