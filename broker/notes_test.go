package broker

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	mdworker "github.com/mdmesh/mdmesh/worker"
)

// stuckLog is a log that nobody reads: writing to it takes until it is released.
type stuckLog struct{ entered, release chan struct{} }

func (s stuckLog) Write(p []byte) (int, error) {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.release
	return len(p), nil
}

// A broker whose log stands still serves and beats on.
func TestBrokerWithAStuckLog(t *testing.T) {
	t.Parallel()
	log := stuckLog{make(chan struct{}, 1), make(chan struct{})}
	b, err := New(Config{
		Name: "a", Listen: []string{"tcp://127.0.0.1:0"}, Heartbeat: 50 * time.Millisecond,
		Logger: hclog.New(&hclog.LoggerOptions{Output: log}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	endpoints := []string{b.Bound()[0].Endpoint}
	w, err := mdworker.New(mdworker.Config{Brokers: endpoints, Service: "echo", Handler: func(_ context.Context, r *mdworker.Request) ([][]byte, error) {
		return r.Body, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan error, 2)
	go func() { ended <- b.Run(ctx) }()
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		close(log.release)
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	c, err := client.New(client.Config{Brokers: endpoints, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	select {
	case <-log.entered:
	case <-ctx.Done():
		t.Fatal("nothing was logged")
	}
	beats := b.turned.Load()
	for b.turned.Load() == beats { // the ticker goes on
		if _, err := c.Call(ctx, "echo", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
}

// At level debug each request has a line that tells how it ended, and at info none.
func TestRequestsAreNoted(t *testing.T) {
	for level, want := range map[hclog.Level][]string{
		hclog.Info:  nil,
		hclog.Debug: {"status=OK attempt=2", "status=NO_WORKER remote=", "status=CANCELLED attempt=1", "status=NOT_TAKEN remote="},
	} {
		t.Run(level.String(), func(t *testing.T) {
			var log bytes.Buffer
			inBubble(t, func(m *mesh) {
				b, stop := m.mortal("b", func(c *Config) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: level}) })
				c, lost := m.client(b, "c"), m.worker(b, "s", 1)
				h := c.ask("s", "x")
				lost.take()
				lost.close()
				w := m.worker(b, "s", 1)
				w.answer(w.take(), "y")
				c.answered(h, mdp.OK, "y")
				c.failed(c.ask("nobody", "x", flags(mdp.FlagNoWait)), mdp.NoWorker, false)
				h = c.ask("s", "x")
				w.take()
				c.cancelRequest(h)
				m.settle()
				if _, err := b.Call(t.Context(), strings.Repeat("s", 300)); err == nil {
					t.Error("a name of 300 octets is taken")
				}
				b.draining.Store(true)
				if _, err := b.Call(t.Context(), "s"); err == nil {
					t.Error("a call is taken in the drain")
				}
				stop()
				var got []string
				for _, line := range strings.Split(log.String(), "\n") {
					if _, facts, ok := strings.Cut(line, " request "); ok {
						got = append(got, facts)
					}
				}
				if len(got) != len(want) {
					t.Fatalf("%d lines: %q", len(got), got)
				}
				for i, facts := range got {
					if !strings.Contains(facts, want[i]) || !strings.Contains(facts, " request=") {
						t.Errorf("line %d tells %q, not %q", i, facts, want[i])
					}
				}
			})
		})
	}
}

// Lines about requests, of which there may be any number, leave room for what is worse.
func TestDebugNotesLeaveRoom(t *testing.T) {
	b, err := New(Config{Listen: []string{"tcp://x:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxNotes {
		b.note(hclog.Debug, "request ended")
	}
	b.note(hclog.Warn, "worker is suspect")
	if n := &b.notes; len(n.lines) != maxDebugNotes+1 || n.lines[maxDebugNotes].level != hclog.Warn || n.lost != 2*maxNotes-maxDebugNotes {
		t.Errorf("%d lines, %d lost", len(n.lines), n.lost)
	}
}
